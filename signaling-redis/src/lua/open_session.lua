-- Writes all of a session's record, if the expected one is there, or none is expected and none is there. An
-- unreadable one gives way, in the same step: who found none in between would take the session for ended.
-- Returns 2 if it was of another type, 0 if nothing is there in place of the expected one.
-- KEYS: the record. ARGV: the expected opening and revision (empty if none is expected), lifetime in ms; 1
-- if an unreadable record was read there, its opening and its revision (empty if missing); then fields and
-- values.
local there = redis.pcall('HMGET', KEYS[1], 'opening', 'revision')
local misplaced = there.err ~= nil
if misplaced and not string.find(there.err, 'WRONGTYPE') then
  return there
end
local is_expected = ARGV[1] ~= '' and there[1] == ARGV[1] and there[2] == ARGV[2]
local unreadable = ARGV[1] == ''
  and (misplaced or ARGV[4] == '1' and (there[1] or '') == ARGV[5] and (there[2] or '') == ARGV[6])
if not is_expected and not unreadable then
  if there[1] then
    return redis.call('HGETALL', KEYS[1])
  elseif ARGV[1] ~= '' then
    return 0
  end
end
if not is_expected and redis.call('EXISTS', KEYS[1]) == 1 then
  -- None of the fields of what is no record may stay.
  redis.call('DEL', KEYS[1])
end
for i = 7, #ARGV, 2 do
  local is_kept = string.sub(ARGV[i], 1, 13) == 'lastHeartbeat' or ARGV[i] == 'metadata'
  redis.call(is_expected and is_kept and 'HSETNX' or 'HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return misplaced and 2 or 1
