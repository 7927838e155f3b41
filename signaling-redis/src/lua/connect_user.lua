-- Makes a connection the one of its user, under a number above all earlier ones, and remembers which
-- it replaced; or gives the one that is there, where that may not be replaced. Once more with the same
-- connection changes nothing.
-- KEYS: the user. ARGV: the connection, lifetime in ms, what it may replace: any, nothing, or one
-- connection.
local there = redis.call('HMGET', KEYS[1], 'connection', 'epoch')
-- Above 2^53 numbers are not exact, so no epoch is.
local last = string.match(there[2] or '', '^%d+$') and tonumber(there[2]) or nil
if last and last >= 9007199254740992 then
  last = nil
end
if there[1] ~= ARGV[1] or not last then
  if there[1] and there[1] ~= ARGV[1] and ARGV[3] ~= 'any' and ARGV[3] ~= there[1] then
    return there[1]
  end
  local time = redis.call('TIME')
  local epoch = math.max(time[1] * 1000000 + time[2], (last or 0) + 1)
  local replaced = there[1] ~= ARGV[1] and { 'replaced', there[1] or '' } or {}
  redis.call('HSET', KEYS[1], 'connection', ARGV[1], 'epoch', string.format('%.0f', epoch),
    unpack(replaced))
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
