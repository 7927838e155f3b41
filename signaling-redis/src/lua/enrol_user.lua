-- Puts a session among those of a user, unless it is there or as many as may be are.
-- KEYS: the user. ARGV: the session's field, the time in ms, how many there may be, lifetime in ms.
local all = redis.call('HGETALL', KEYS[1])
local sessions = 0
for i = 1, #all, 2 do
  if all[i] == ARGV[1] then
    return 1
  end
  if string.sub(all[i], 1, 8) == 'session:' then
    sessions = sessions + 1
  end
end
if sessions >= tonumber(ARGV[3]) then
  return all
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
