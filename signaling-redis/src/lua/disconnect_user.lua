-- Forgets the connection of a user, if it is the expected one. Its number stays for a while, so that
-- later ones are higher; a user without sessions is soon forgotten.
-- KEYS: the user. ARGV: the connection, lifetime of an idle user in ms.
if redis.call('HGET', KEYS[1], 'connection') ~= ARGV[1] then
  return 0
end
redis.call('HDEL', KEYS[1], 'connection')
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if name == 'revokedBefore' or string.sub(name, 1, 8) == 'session:' then
    return 1
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
