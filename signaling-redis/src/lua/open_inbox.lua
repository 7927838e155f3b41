-- Opens an inbox if it is not there, and lets it live on. Says whether it was there, up to which entry
-- it goes, and the history of the data that this server has.
-- KEYS: the inbox, what it holds: entries * 2^36 + bytes that are not read. ARGV: lifetime in ms, the
-- last entry that was read (empty to begin behind the last one, or if some are not removed yet).
local entries = redis.pcall('XLEN', KEYS[1])
local there = type(entries) == 'number' and entries > 0
local last = ''
if there then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last = info[i + 1]
    end
  end
end
-- A key of another type, a stream without the entry that keeps it, and one without an id for another
-- entry take nothing any more.
if not there or last == '18446744073709551615-18446744073709551615' then
  there, entries = false, 1
  redis.call('DEL', KEYS[1], KEYS[2])
  last = redis.call('XADD', KEYS[1], '*', 'opened', '')
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
-- If all is read, the count is known, whatever became of the calls that counted. A server without memory
-- refuses to set it, and reading goes on.
if last == ARGV[2] or redis.call('PEXPIRE', KEYS[2], ARGV[1]) == 0 then
  redis.pcall('SET', KEYS[2], string.format('%.0f', entries * 68719476736), 'PX', ARGV[1])
end
return { there and 1 or 0, last,
  string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or '' }
