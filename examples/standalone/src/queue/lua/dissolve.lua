-- Forgets the pair that the node holds, and lets those who remain wait on in their places.
-- ARGV: the session, then those who do not remain.
local pair = held()[holder]
if pair and pair.session == ARGV[5] then
  redis.call('HDEL', KEYS[3], holder)
  for i, user in ipairs(pair.users) do
    local gone = false
    for g = 6, #ARGV do
      gone = gone or ARGV[g] == user
    end
    if not gone then
      redis.call('ZADD', KEYS[1], pair.arrivals[i], user)
      redis.call('ZADD', KEYS[2], pair.patience[i], user)
      if pair.asks[i] == 'connected' then
        redis.call('HSET', KEYS[4], user, pair.asks[i])
      end
    end
  end
  live_on()
end
return answer('done')
