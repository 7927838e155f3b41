-- Lists a connection of a node, with its user.
-- KEYS: the node's connections. ARGV: the connection's number, the user, lifetime in ms.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
