-- Puts envelopes into an inbox: all of them, or none when it is not there or has no room.
-- KEYS: the inbox, what it holds: entries * 2^36 + bytes that are not read. ARGV: the same of what is
-- put in, how many entries it may hold, how many bytes, lifetime of the count in ms, then an entry's
-- envelopes each.
local holds = redis.pcall('INCRBY', KEYS[2], ARGV[1])
if type(holds) == 'table' then
  -- It was no number. The count is true again when the reader has read everything.
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])
else
  local bytes = holds % 68719476736
  if bytes > tonumber(ARGV[3]) or holds - bytes > ARGV[2] * 68719476736 then
    redis.call('DECRBY', KEYS[2], ARGV[1])
    return -1
  end
  if holds == tonumber(ARGV[1]) then
    -- The count was not there.
    redis.call('PEXPIRE', KEYS[2], ARGV[4])
  end
end
for i = 5, #ARGV do
  local entry = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', '*', 'envelopes', ARGV[i])
  -- One of another type is opened again by its node.
  if not entry or entry.err and string.find(entry.err, 'WRONGTYPE') then
    redis.call('DEL', KEYS[2])
    return 0
  elseif entry.err then
    return entry
  end
end
return 1
