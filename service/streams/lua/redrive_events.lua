-- Append and publish the event that begins a generation of a job, and trim away all before it.
-- KEYS: stream
-- ARGV: publish, channel, ttl_ms, attempt, type, data
-- returns: verdict (appended, fenced), the stream's last id
local stream, publish, channel, ttl_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local attempt, name, data = tonumber(ARGV[4]), ARGV[5], ARGV[6]

local last_attempt, last_seq = 0, 0
if redis.call('EXISTS', stream) == 1 then
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last_attempt, last_seq = string.match(info[i + 1], '^(%d+)-(%d+)$')
      last_attempt, last_seq = tonumber(last_attempt), tonumber(last_seq)
    end
  end
end

local id = string.format('%.0f-1', attempt)
if attempt > last_attempt then
  redis.call('XADD', stream, id, 'type', name, 'data', data)
  redis.call(publish, channel, 'id: ' .. id .. '\nevent: ' .. name .. '\ndata: ' .. data .. '\n\n')
  last_attempt, last_seq = attempt, 1
end
-- Never DEL: a stream keeps refusing the ids that it has had.
redis.call('XTRIM', stream, 'MINID', id)
local verdict = 'fenced'
if attempt == last_attempt then
  redis.call('PEXPIRE', stream, ttl_ms)
  verdict = 'appended'
end
return { verdict, string.format('%.0f-%.0f', last_attempt, last_seq) }
