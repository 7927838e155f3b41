-- Lists times at which sessions are to be looked at.
-- KEYS: the list. ARGV: lifetime in ms, then scores and members.
redis.call('ZADD', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
