-- Takes times that have passed from the list for one node: each is put off for a while, in which the
-- other nodes do not get it. It comes again if the node neither ended its session nor unlisted it.
-- KEYS: the list. ARGV: how many at most, put off by how many ms, lifetime in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
if #due > 0 then
  local put_off, scores = string.format('%.0f', now + ARGV[2]), {}
  for _, member in ipairs(due) do
    scores[#scores + 1] = put_off
    scores[#scores + 1] = member
  end
  -- A server without memory refuses this. Then other nodes get the same, and ending sessions frees some.
  redis.pcall('ZADD', KEYS[1], unpack(scores))
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return { string.format('%.0f', now), due }
