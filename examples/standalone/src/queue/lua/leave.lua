-- Lets a user wait no longer. Says whether it did.
-- ARGV: the user.
forget_impatient()
redis.call('ZREM', KEYS[2], ARGV[5])
redis.call('HDEL', KEYS[4], ARGV[5])
return answer('done', int(redis.call('ZREM', KEYS[1], ARGV[5])))
