-- Opens an inbox if it is not there, and lets it live on. Says whether it was there, up to which entry
-- it goes, and the history of the data that this server has.
-- KEYS: the inbox. ARGV: lifetime in ms.
local there = redis.call('EXISTS', KEYS[1])
if there == 0 then
  redis.call('XADD', KEYS[1], '*', 'opened', '')
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local last = ''
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    last = info[i + 1]
  end
end
return { there, last, string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or '' }
