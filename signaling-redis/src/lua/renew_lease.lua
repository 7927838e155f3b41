-- Renews a node's lease by the server's clock, and notes its counts. Gives each of some other nodes a lease
-- unless it has one, run out or not. Returns whether the node had one that had not run out, the server's
-- time in ms, the marker of this database, and the leases that have run out.
-- KEYS: the leases, the marker, the counts. ARGV: the node, the lease in ms, a marker if there is none,
-- lifetime of the leases in ms, lifetime of the marker in ms, what the node has; then the other nodes.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local marker = redis.call('GET', KEYS[2]) or ARGV[3]
redis.call('SET', KEYS[2], marker, 'PX', ARGV[5])
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
for i = 7, #ARGV do
  redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now + ARGV[2]), ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[6])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
local held = before and tonumber(before) > now and 1 or 0
local lost = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
return { held, string.format('%.0f', now), marker, lost }
