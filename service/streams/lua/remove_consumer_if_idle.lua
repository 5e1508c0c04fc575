-- Remove a consumer that has no pending entry; removing one that has would lose its entries.
-- KEYS: stream
-- ARGV: group, consumer
-- returns: 1 removed, 0 kept
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local pending = redis.pcall('XPENDING', stream, group, '-', '+', 1, consumer)
if pending.err then
  return string.find(pending.err, 'NOGROUP', 1, true) and 0 or pending
end
if pending[1] then
  return 0
end
redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
return 1
