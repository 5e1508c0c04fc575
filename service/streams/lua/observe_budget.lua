-- Adapt to what the upstream says of its limits and of what is left of them.
-- KEYS: bucket
-- ARGV: max_requests, max_input, max_output, left_requests, left_input, left_output
-- returns: 1
local bucket = KEYS[1]
local KEEP_MS = 3600000
redis.call('HSET', bucket, 'seen', '1')
for i, kind in ipairs({ 'requests', 'input', 'output' }) do
  local limit, left = tonumber(ARGV[i]), tonumber(ARGV[3 + i])
  -- An answer that names no limit, as a gateway's, does not lift one; nothing is no limit either.
  if limit and limit > 0 then
    redis.call('HSET', bucket, 'limit:' .. kind, ARGV[i])
  end
  -- Less is left than thought when others use the same account; more, when answers are late.
  local level = tonumber(redis.call('HGET', bucket, 'level:' .. kind) or '')
  if level and left and left < level then
    redis.call('HSET', bucket, 'level:' .. kind, ARGV[3 + i])
  end
end
redis.call('PEXPIRE', bucket, KEEP_MS)
return 1
