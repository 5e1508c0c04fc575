-- Let a request pass if its policy has room for it, by the clock of the server.
-- Source: ITU-T I.371, generic cell rate algorithm (virtual scheduling).
-- KEYS: rate
-- ARGV: interval_us, burst_us
-- returns: allowed (1 or 0), the backlog afterwards in us
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local busy_until = tonumber(redis.call('GET', KEYS[1]) or '') or now
-- A clock that was set back, or a window that was shortened, must not lock anybody out.
local backlog = math.min(math.max(0, busy_until - now), burst)
if backlog + interval > burst then
  return { 0, backlog }
end
backlog = backlog + interval
redis.call('SET', KEYS[1], string.format('%.0f', now + backlog), 'PX', math.ceil(backlog / 1000))
return { 1, backlog }
