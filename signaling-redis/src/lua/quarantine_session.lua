-- Lets an unreadable record of a session expire soon, unless it has changed since it was read. Its
-- revision is cleared, so that the next heartbeat of an attached connection reports a stale view and
-- that connection writes the record again.
-- KEYS: the record. ARGV: opening and revision as they were read (empty if missing), lifetime in ms.
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  local there = redis.call('HMGET', KEYS[1], 'opening', 'revision')
  if (there[1] or '') ~= ARGV[1] or (there[2] or '') ~= ARGV[2] then
    return 0
  end
  redis.call('HSET', KEYS[1], 'revision', '')
end
local left = redis.call('PTTL', KEYS[1])
if left == -1 or left > tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
