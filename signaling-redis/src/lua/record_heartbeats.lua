-- Moves the last heartbeats of a session forward where the connection is attached, and says where not
-- all was as believed: the sum of 1 for the first heartbeat, 2 for the second, 4 for the third…
-- KEYS: the record. ARGV: lifetime in ms or empty to leave it, then for each heartbeat the names of its
-- participant's fields for connection and heartbeat, its connection, the time in ms, the opening, the
-- revision.
local wrong, bit = 0, 1
for i = 2, #ARGV, 6 do
  local there = redis.call('HMGET', KEYS[1], ARGV[i], 'opening', 'revision', ARGV[i + 1])
  if there[1] == ARGV[i + 2] and there[2] == ARGV[i + 4] then
    -- Decimals without leading zeros: the longer one is the larger one.
    local last, at = there[4] or '', ARGV[i + 3]
    if #last < #at or #last == #at and last < at then
      redis.call('HSET', KEYS[1], ARGV[i + 1], at)
    end
    if there[3] ~= ARGV[i + 5] then
      wrong = wrong + bit
    end
  else
    wrong = wrong + bit
  end
  bit = bit * 2
end
if ARGV[1] ~= '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return wrong
