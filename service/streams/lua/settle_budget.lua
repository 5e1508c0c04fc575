-- Correct a reservation by what the call took, and let everybody pause if the upstream asked for it.
-- KEYS: bucket
-- ARGV: back_requests, back_input, back_output, pause_ms
-- returns: 1 if all pause for longer now than before, else 0
local bucket, pause_ms = KEYS[1], tonumber(ARGV[4])
local KEEP_MS = 3600000
for i, kind in ipairs({ 'requests', 'input', 'output' }) do
  local name = 'level:' .. kind
  local level = tonumber(redis.call('HGET', bucket, name) or '')
  if level then
    level = level + tonumber(ARGV[i])
    -- An upstream that refuses has nothing left, whatever was thought.
    if pause_ms > 0 then
      level = math.min(level, 0)
    end
    redis.call('HSET', bucket, name, string.format('%.6f', level))
  end
end
local is_longer = 0
if pause_ms > 0 then
  local time = redis.call('TIME')
  local pause = time[1] * 1000 + math.floor(time[2] / 1000) + pause_ms
  if pause > (tonumber(redis.call('HGET', bucket, 'pause') or '') or 0) then
    redis.call('HSET', bucket, 'pause', string.format('%.0f', pause))
    is_longer = 1
  end
end
redis.call('PEXPIRE', bucket, math.max(KEEP_MS, pause_ms))
return is_longer
