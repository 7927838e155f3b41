-- Lets a user wait, and gives the next pair.
-- ARGV: the user, its patience in ms, how many may wait, an id for a pair that is new, and the
-- partners that it asks for: all or connected.
local user = ARGV[5]
forget_impatient()

local taken, in_pair = 0, false
for _, pair in pairs(held()) do
  taken = taken + 2
  in_pair = in_pair or pair.users[1] == user or pair.users[2] == user
end
if not in_pair then
  if not redis.call('ZSCORE', KEYS[1], user) then
    if redis.call('ZCARD', KEYS[1]) + taken >= tonumber(ARGV[7]) then
      return answer('full')
    end
    -- Behind the last one, also where this server's clock is behind its predecessor's.
    local arrival = time[1] * 1000000 + time[2]
    local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
    -- Above 2^53 numbers are not exact.
    if last[2] and tonumber(last[2]) < 9007199254740992 then
      arrival = math.max(arrival, tonumber(last[2]) + 1)
    end
    redis.call('ZADD', KEYS[1], int(arrival), user)
  end
  redis.call('ZADD', KEYS[2], int(now + ARGV[6]), user)
  if ARGV[9] == 'connected' then
    redis.call('HSET', KEYS[4], user, ARGV[9])
  else
    redis.call('HDEL', KEYS[4], user)
  end
end

local taken_pair = take(ARGV[8])
live_on()
return taken_pair
