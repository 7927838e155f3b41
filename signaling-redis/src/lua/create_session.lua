-- Adds a session's record, unless one that is not older is there. An unreadable one gives way, in the same
-- step: who found none in between would take the session for ended. Returns 2 if it was of another type.
-- KEYS: the record. ARGV: opening, revision, lifetime in ms; 1 if an unreadable record was read there, its
-- opening and its revision (empty if missing); then fields and values.
local there = redis.pcall('HMGET', KEYS[1], 'opening', 'revision')
local misplaced = there.err ~= nil
if misplaced and not string.find(there.err, 'WRONGTYPE') then
  return there
end
local unreadable = misplaced
  or ARGV[4] == '1' and (there[1] or '') == ARGV[5] and (there[2] or '') == ARGV[6]
local revision = tonumber(there[2])
local older = not unreadable and there[1] == ARGV[1] and revision and revision < tonumber(ARGV[2])
if there[1] and not older and not unreadable then
  return redis.call('HGETALL', KEYS[1])
end
if unreadable or not older and redis.call('EXISTS', KEYS[1]) == 1 then
  -- None of the fields of what is no record may stay.
  redis.call('DEL', KEYS[1])
end
for i = 7, #ARGV, 2 do
  if not (older and string.sub(ARGV[i], 1, 13) == 'lastHeartbeat') then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return misplaced and 2 or 1
