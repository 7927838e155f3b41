-- Gives a node a lease by the server's clock, unless it has one, run out or not.
-- KEYS: the leases. ARGV: the node, the lease in ms, lifetime of the leases in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
