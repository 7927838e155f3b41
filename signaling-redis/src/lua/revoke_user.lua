-- Revokes a user's tokens that were issued before a time. The latest time counts. Returns the user's connection,
-- empty if there is none.
-- KEYS: the user. ARGV: the time in ms, how long it is kept in ms.
local there = redis.call('HMGET', KEYS[1], 'connection', 'revokedBefore')
-- What is no number is replaced.
local before = string.match(there[2] or '', '^%d+$') and tonumber(there[2]) or -1
if before < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'revokedBefore', ARGV[1])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = redis.call('HGET', KEYS[1], 'revokedUntil') or ''
local ends = math.max(now + ARGV[2], string.match(last, '^%d+$') and tonumber(last) or 0)
redis.call('HSET', KEYS[1], 'revokedUntil', string.format('%.0f', ends))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return there[1] or ''
