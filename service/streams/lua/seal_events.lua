-- Take all events out of a job's stream, and let it refuse every other one while it lasts.
-- KEYS: stream
-- ARGV: last_id, ttl_ms
-- returns: 1
local stream, last_id, ttl_ms = KEYS[1], ARGV[1], ARGV[2]
redis.call('DEL', stream)
-- A stream keeps refusing the ids that it has had, and all below them.
redis.call('XADD', stream, last_id, 'sealed', '')
redis.call('XTRIM', stream, 'MAXLEN', 0)
redis.call('PEXPIRE', stream, ttl_ms)
return 1
