-- Remove a silent consumer that has no pending entry; removing one that has would lose its entries.
-- KEYS: stream
-- ARGV: group, idle_ms, consumer
-- returns: 1 removed, 0 kept
local stream, group, idle_ms, consumer = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local pending = redis.pcall('XPENDING', stream, group, '-', '+', 1, consumer)
if pending.err then
  return string.find(pending.err, 'NOGROUP', 1, true) and 0 or pending
end
if pending[1] then
  return 0
end
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local described = {}
  for i = 1, #fields, 2 do
    described[fields[i]] = fields[i + 1]
  end
  if described['name'] == consumer and described['idle'] >= idle_ms then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
    return 1
  end
end
return 0
