-- Moves the last heartbeats of a session forward where the connection is attached, and says where not
-- all was as believed: the sum of 1 for the first heartbeat, 2 for the second, 4 for the third…
-- KEYS: the record. ARGV: lifetime in ms or empty to leave it, then for each heartbeat the names of its
-- participant's fields for connection and heartbeat, its connection, the time in ms, the opening, the
-- revision.
local wrong, bit, all = 0, 1, 0
for i = 2, #ARGV, 6 do
  local there = redis.call('HMGET', KEYS[1], ARGV[i], 'opening', 'revision', ARGV[i + 1])
  if there[1] == ARGV[i + 2] and there[2] == ARGV[i + 4] then
    -- Decimals without leading zeros: the longer one is the larger one. What is no time is replaced.
    local last, at = there[4] or '', ARGV[i + 3]
    if #last < #at or #last == #at and last < at or #last > 15 or string.find(last, '%D') then
      redis.call('HSET', KEYS[1], ARGV[i + 1], at)
    end
    if there[3] ~= ARGV[i + 5] then
      wrong = wrong + bit
    end
  else
    wrong = wrong + bit
  end
  bit, all = bit * 2, all + bit
end
-- A record of which nothing is as believed may be unreadable, and is left to expire.
if ARGV[1] ~= '' and wrong < all then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return wrong
