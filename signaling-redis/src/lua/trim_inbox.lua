-- Removes what was read, all but the last entry. Done twice, it counts once: the second time there is
-- nothing to remove.
-- KEYS: the inbox, what it holds: entries * 2^36 + bytes that are not read. ARGV: the last entry that
-- was read, the bytes that were read since the last time, lifetime of the count in ms.
local removed = redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1])
if removed > 0 then
  local count = string.format('%.0f', removed * 68719476736 + ARGV[2])
  if type(redis.pcall('DECRBY', KEYS[2], count)) == 'table' then
    -- A server without memory refuses it. One too high would refuse envelopes when there is memory again.
    redis.call('DEL', KEYS[2])
  end
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return removed
