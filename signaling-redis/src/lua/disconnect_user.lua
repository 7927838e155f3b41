-- Forgets the connection of a user, if it is the expected one. Its number stays, so that later ones
-- are higher.
-- KEYS: the user. ARGV: the connection.
if redis.call('HGET', KEYS[1], 'connection') ~= ARGV[1] then
  return 0
end
redis.call('HDEL', KEYS[1], 'connection')
return 1
