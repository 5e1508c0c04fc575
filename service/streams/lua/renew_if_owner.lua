-- Reset the idle time of the entries that are pending for this consumer.
-- KEYS: stream
-- ARGV: group, consumer, entry_ids...
-- returns: how many were its own
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local renewed = 0
for i = 3, #ARGV do
  local pending = redis.pcall('XPENDING', stream, group, ARGV[i], ARGV[i], 1)
  if pending.err then
    return string.find(pending.err, 'NOGROUP', 1, true) and 0 or pending
  end
  if pending[1] and pending[1][2] == consumer then
    redis.call('XCLAIM', stream, group, consumer, 0, ARGV[i], 'JUSTID')
    renewed = renewed + 1
  end
end
return renewed
