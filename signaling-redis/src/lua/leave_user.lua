-- Takes a session from those of a user. One with neither a connection nor a session is soon forgotten.
-- KEYS: the user. ARGV: the session's field, lifetime of an idle user in ms, the time of the membership or
-- nothing.
if ARGV[3] ~= '' and redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[3] then
  return 1
end
redis.call('HDEL', KEYS[1], ARGV[1])
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if name == 'connection' or name == 'revokedBefore' or string.sub(name, 1, 8) == 'session:' then
    return 1
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
