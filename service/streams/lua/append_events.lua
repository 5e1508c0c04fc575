-- Append a job's events, contiguous and of one attempt, and publish those that are new.
-- KEYS: stream
-- ARGV: publish, channel, ttl_ms, attempt, first_seq, last_is_final, types_and_data...
-- returns: verdict (appended, fenced, hole), the stream's last id
local stream, publish, channel, ttl_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local attempt, first_seq, last_is_final = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'

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

local function answer(verdict)
  return { verdict, string.format('%.0f-%.0f', last_attempt, last_seq) }
end

if attempt < last_attempt then
  return answer('fenced')
end
local count = (#ARGV - 6) / 2
for i = 1, count do
  local seq = first_seq + i - 1
  local is_there = attempt == last_attempt and seq <= last_seq
  if not is_there then
    local follows = (attempt == last_attempt and seq == last_seq + 1)
      or (attempt > last_attempt and seq == 1)
    -- The end of a job is worth more than an unbroken history: readers resync before it.
    if not follows and not (last_is_final and i == count) then
      return answer('hole')
    end
    local id = string.format('%.0f-%.0f', attempt, seq)
    local name, data = ARGV[5 + 2 * i], ARGV[6 + 2 * i]
    redis.call('XADD', stream, id, 'type', name, 'data', data)
    redis.call(publish, channel, 'id: ' .. id .. '\nevent: ' .. name .. '\ndata: ' .. data .. '\n\n')
    last_attempt, last_seq = attempt, seq
  end
end
redis.call('PEXPIRE', stream, ttl_ms)
return answer('appended')
