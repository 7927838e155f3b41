-- Adds a session's record, unless one that is not older is there.
-- KEYS: the record. ARGV: opening, revision, lifetime in ms, then fields and values.
local there = redis.call('HMGET', KEYS[1], 'opening', 'revision')
local older = there[1] == ARGV[1] and tonumber(there[2]) < tonumber(ARGV[2])
if there[1] and not older then
  return redis.call('HGETALL', KEYS[1])
end
for i = 4, #ARGV, 2 do
  if not (older and string.sub(ARGV[i], 1, 13) == 'lastHeartbeat') then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
