-- Lets a user live on, if its connection is the expected one.
-- KEYS: the user. ARGV: the connection, lifetime in ms.
local there = redis.call('HMGET', KEYS[1], 'connection', 'revokedBefore')
if there[1] ~= ARGV[1] then
  return 0
end
-- A revocation may be kept for longer.
if not there[2] or redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
