-- Make this consumer's pending entries look long idle, so that the next XAUTOCLAIM takes them.
-- KEYS: stream
-- ARGV: group, consumer, idle_ms, entry_ids...
-- returns: how many were its own
local stream, group, consumer, idle_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local released = 0
for i = 4, #ARGV do
  local pending = redis.pcall('XPENDING', stream, group, ARGV[i], ARGV[i], 1)
  if pending.err then
    return string.find(pending.err, 'NOGROUP', 1, true) and 0 or pending
  end
  if pending[1] and pending[1][2] == consumer then
    redis.call('XCLAIM', stream, group, consumer, 0, ARGV[i], 'IDLE', idle_ms, 'JUSTID')
    released = released + 1
  end
end
return released
