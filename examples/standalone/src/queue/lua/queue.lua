-- What every script of the queue begins with.
-- KEYS: those who wait, by arrival in microseconds; the same by the end of their patience in ms; the
-- pair that each node holds; those who ask for connected partners. They share a slot.
-- ARGV: until when the answer is waited for, the node that asks, for how long a pair is its own, how
-- long the keys live on, then the script's own. All times in ms of the server's clock.
-- The answer is the time, what became of it, what was unreadable and is removed, and what the script
-- has to say: all of it text.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local holder = ARGV[2]

-- Longer numbers than Lua writes by itself.
local function int(number)
  return string.format('%.0f', number)
end

local unreadable = {}

local function answer(outcome, ...)
  return { int(now), outcome, table.concat(unreadable, ', ', 1, math.min(#unreadable, 8)), ... }
end

-- Nobody waits for the answer any more, and others may have been told otherwise.
if now > tonumber(ARGV[1]) then
  return answer('late')
end

-- A key of another type holds nothing of the queue.
for i, kind in ipairs({ 'zset', 'zset', 'hash', 'hash' }) do
  local there = redis.call('TYPE', KEYS[i]).ok
  if there ~= kind and there ~= 'none' then
    redis.call('DEL', KEYS[i])
    unreadable[#unreadable + 1] = KEYS[i]
    if i == 2 then
      -- Without an end of their patience, users who are gone would wait for ever.
      for _, user in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
        redis.call('ZADD', KEYS[2], int(now + ARGV[4]), user)
      end
    end
  end
end

local function forget_impatient()
  local over
  repeat
    over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', int(now), 'LIMIT', 0, 1000)
    if #over > 0 then
      redis.call('ZREM', KEYS[1], unpack(over))
      redis.call('ZREM', KEYS[2], unpack(over))
      redis.call('HDEL', KEYS[4], unpack(over))
    end
  until #over < 1000
end

local function is_score(value)
  local number = tonumber(value)
  return number and number == number
end

-- The pair in a text; nil if no script of the queue wrote it.
local function decode(text)
  local ok, pair = pcall(cjson.decode, text)
  if not ok or type(pair) ~= 'table' or type(pair.session) ~= 'string' or not is_score(pair.till) then
    return nil
  end
  for _, list in ipairs({ 'users', 'arrivals', 'patience', 'asks' }) do
    for i = 1, 2 do
      local value = type(pair[list]) == 'table' and pair[list][i]
      local is_number = list == 'arrivals' or list == 'patience'
      if type(value) ~= 'string' or is_number and not is_score(value) then
        return nil
      end
    end
  end
  return pair
end

-- The pairs that are held, by their holders: one a node, so there are few.
local function held()
  local all, pairs_held = redis.call('HGETALL', KEYS[3]), {}
  for i = 1, #all, 2 do
    local pair = decode(all[i + 1])
    if pair then
      pairs_held[all[i]] = pair
    else
      redis.call('HDEL', KEYS[3], all[i])
      unreadable[#unreadable + 1] = 'a pair'
    end
  end
  return pairs_held
end

-- The pair that the node holds; else one whose holder has had it for too long; else the first two.
local function take(session)
  local pair
  for other, its in pairs(held()) do
    if other == holder then
      pair = its
      break
    end
    if tonumber(its.till) <= now and (not pair or tonumber(its.till) < tonumber(pair.till)) then
      pair = its
      pair.holder = other
    end
  end
  if pair and pair.holder then
    redis.call('HDEL', KEYS[3], pair.holder)
    pair.holder = nil
  end
  if not pair then
    local users = redis.call('ZRANGE', KEYS[1], 0, 1)
    if #users < 2 then
      return answer('done')
    end
    pair = { session = session, users = users, arrivals = {}, patience = {}, asks = {} }
    for i, user in ipairs(users) do
      pair.arrivals[i] = redis.call('ZSCORE', KEYS[1], user)
      pair.patience[i] = redis.call('ZSCORE', KEYS[2], user) or int(now)
      pair.asks[i] = redis.call('HGET', KEYS[4], user) or 'all'
      redis.call('ZREM', KEYS[1], user)
      redis.call('ZREM', KEYS[2], user)
      redis.call('HDEL', KEYS[4], user)
    end
  end
  pair.till = int(now + ARGV[3])
  redis.call('HSET', KEYS[3], holder, cjson.encode(pair))
  local partners = 'all'
  if pair.asks[1] == 'connected' or pair.asks[2] == 'connected' then
    partners = 'connected'
  end
  return answer('done', pair.session, pair.users[1], pair.users[2], partners)
end

local function live_on()
  for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, ARGV[4])
  end
end

