-- What the nodes have whose leases have not run out, by the server's clock: node, counts, node, ...
-- KEYS: the leases, the counts.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local result = {}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')) do
  local counts = redis.call('HGET', KEYS[2], node)
  -- A node whose lease another node added has reported nothing.
  if counts then
    result[#result + 1] = node
    result[#result + 1] = counts
  end
end
return result
