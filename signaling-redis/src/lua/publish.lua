-- Puts envelopes into an inbox: all of them, or none when it is not there or has no room.
-- KEYS: the inbox. ARGV: how many entries it holds, then an entry's envelopes each.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
if redis.call('XLEN', KEYS[1]) + #ARGV - 1 > tonumber(ARGV[1]) then
  return -1
end
for i = 2, #ARGV do
  redis.call('XADD', KEYS[1], '*', 'envelopes', ARGV[i])
end
return 1
