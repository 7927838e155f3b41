-- Changes a session's record, if it is the expected one.
-- KEYS: the record. ARGV: expected opening, expected revision, lifetime in ms, then fields and values.
local there = redis.call('HMGET', KEYS[1], 'opening', 'revision')
if not there[1] then
  return 0
end
if there[1] ~= ARGV[1] or there[2] ~= ARGV[2] then
  return redis.call('HGETALL', KEYS[1])
end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
