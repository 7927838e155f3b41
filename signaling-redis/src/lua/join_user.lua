-- Puts a session among those of a user, unless it is there or as many as may be are. Returns the user's
-- connection, empty if there is none, or all that there is of a user in too many sessions.
-- KEYS: the user. ARGV: the session's field, how many there may be, lifetime in ms.
local all = redis.call('HGETALL', KEYS[1])
local sessions = 0
for i = 1, #all, 2 do
  if all[i] == ARGV[1] then
    return redis.call('HGET', KEYS[1], 'connection') or ''
  end
  if string.sub(all[i], 1, 8) == 'session:' then
    sessions = sessions + 1
  end
end
if sessions >= tonumber(ARGV[2]) then
  return all
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now))
local there = redis.call('HMGET', KEYS[1], 'connection', 'revokedBefore')
-- A revocation may be kept for longer.
if not there[2] or redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return there[1] or ''
