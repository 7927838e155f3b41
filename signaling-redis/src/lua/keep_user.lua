-- Lets a user live on, if its connection is the expected one.
-- KEYS: the user. ARGV: the connection, lifetime in ms.
if redis.call('HGET', KEYS[1], 'connection') ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
