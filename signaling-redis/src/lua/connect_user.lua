-- Makes a connection the one of its user, under a number above all earlier ones, and remembers which
-- it replaced; or gives the one that is there, where that may not be replaced. Once more with the same
-- connection changes nothing but the time at which it was accepted, where that is known.
-- Returns 0 if its client's token is revoked.
-- KEYS: the user. ARGV: the connection, lifetime in ms, what it may replace (older, nothing, or one
-- connection), the earliest (0 where unknown) and the latest time in ms at which it was accepted, and the time in
-- ms at which the token was issued.
local there = redis.call('HMGET', KEYS[1], 'connection', 'epoch', 'accepted', 'revokedBefore', 'revokedUntil')
local time = redis.call('TIME')
local revoked_before = string.match(there[4] or '', '^%d+$') and tonumber(there[4]) or nil
if revoked_before and time[1] * 1000 > (tonumber(there[5] or '') or 0) then
  redis.call('HDEL', KEYS[1], 'revokedBefore', 'revokedUntil')
  revoked_before = nil
end
if revoked_before and tonumber(ARGV[6]) < revoked_before then
  return 0
end
-- Above 2^53 numbers are not exact, so no epoch is.
local last = string.match(there[2] or '', '^%d+$') and tonumber(there[2]) or nil
if last and last >= 9007199254740992 then
  last = nil
end
if there[1] and there[1] ~= ARGV[1] then
  local earliest = string.match(there[3] or '', '^%d+$') and tonumber(there[3]) or 0
  -- A time that is still to come is from a clock that has been set back since.
  local may_be_older = earliest <= tonumber(ARGV[5]) or earliest > time[1] * 1000 + time[2] / 1000
  if not may_be_older or (ARGV[3] ~= 'older' and ARGV[3] ~= there[1]) then
    return there[1]
  end
end
if there[1] ~= ARGV[1] or not last then
  local epoch = math.max(time[1] * 1000000 + time[2], (last or 0) + 1)
  local replaced = there[1] ~= ARGV[1] and { 'replaced', there[1] or '' } or {}
  redis.call('HSET', KEYS[1], 'connection', ARGV[1], 'epoch', string.format('%.0f', epoch),
    'accepted', ARGV[4], unpack(replaced))
elseif ARGV[4] ~= '0' then
  redis.call('HSET', KEYS[1], 'accepted', ARGV[4])
end
-- A revocation may be kept for longer.
if not revoked_before or redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('HGETALL', KEYS[1])
