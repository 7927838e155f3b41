-- Deletes an unreadable record of a session, unless it has changed since it was read.
-- KEYS: the record. ARGV: opening and revision as they were read (empty if missing).
local there = redis.call('HMGET', KEYS[1], 'opening', 'revision')
if (there[1] or '') ~= ARGV[1] or (there[2] or '') ~= ARGV[2] then
  return 0
end
return redis.call('DEL', KEYS[1])
