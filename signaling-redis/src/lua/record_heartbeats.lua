-- Moves the last heartbeats of a session forward where the connection is attached, and says for each
-- whether all was as believed: 1 if it was.
-- KEYS: the record. ARGV: lifetime in ms or empty to leave it, then for each heartbeat the number of
-- the participant, its connection, the time in ms, the opening, the revision.
local result = {}
for i = 2, #ARGV, 5 do
  local beat = 'lastHeartbeat' .. ARGV[i]
  local there = redis.call('HMGET', KEYS[1], 'participant' .. ARGV[i] .. 'Ws', 'opening', 'revision', beat)
  if there[1] == ARGV[i + 1] and there[2] == ARGV[i + 3] then
    if (tonumber(there[4]) or 0) < tonumber(ARGV[i + 2]) then
      redis.call('HSET', KEYS[1], beat, ARGV[i + 2])
    end
    result[#result + 1] = there[3] == ARGV[i + 4] and 1 or 0
  else
    result[#result + 1] = 0
  end
end
if ARGV[1] ~= '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return result
