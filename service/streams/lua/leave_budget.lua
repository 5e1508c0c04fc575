-- Give up a place in the queue for the upstream.
-- KEYS: queue, tickets
-- ARGV: ticket
-- returns: 1 if there was one, else 0
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
