-- Forgets a pair that has its session, whoever holds it by now.
-- ARGV: the session.
for other, pair in pairs(held()) do
  if pair.session == ARGV[5] then
    redis.call('HDEL', KEYS[3], other)
  end
end
return answer('done')
