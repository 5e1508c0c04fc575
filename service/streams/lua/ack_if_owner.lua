-- Acknowledge and delete the entries that are pending for this consumer.
-- KEYS: stream
-- ARGV: group, consumer, entry_ids...
-- returns: how many were its own
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local done = 0
for i = 3, #ARGV do
  local pending = redis.pcall('XPENDING', stream, group, ARGV[i], ARGV[i], 1)
  if pending.err then
    return string.find(pending.err, 'NOGROUP', 1, true) and 0 or pending
  end
  if pending[1] and pending[1][2] == consumer then
    redis.call('XACK', stream, group, ARGV[i])
    redis.call('XDEL', stream, ARGV[i])
    done = done + 1
  end
end
return done
