-- Removes a session's record, if it is the expected one. Who did it is remembered for a while, so
-- that asking once more, when the answer was lost, gives the same answer.
-- KEYS: the record, who removed it. ARGV: expected opening, expected revision, who asks, how long to
-- remember in ms.
local there = redis.call('HMGET', KEYS[1], 'opening', 'revision')
if not there[1] then
  return redis.call('GET', KEYS[2]) == ARGV[3] and 1 or 0
end
if there[1] ~= ARGV[1] or there[2] ~= ARGV[2] then
  return redis.call('HGETALL', KEYS[1])
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return 1
