-- Take a call's cost out of the upstream's limits if it is its turn, fair between users.
-- Source: P. Goyal et al., "Start-time Fair Queueing", SIGCOMM 1996.
-- KEYS: bucket, queue, tickets, users, peers
-- ARGV: ticket, user, peer, burst, requests, input, output, max_requests, max_input, max_output
-- returns: granted (1 or 0), wait in ms, peers, limits of requests, input and output ('' for none)
local bucket, queue, tickets, users, peers = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ticket, user, peer, burst = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local KINDS = { 'requests', 'input', 'output' }
local KEEP_MS, PLACE_MS, PEER_MS, PROBE_MS, SOON_MS = 3600000, 10000, 60000, 2000, 100

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function field(name)
  return tonumber(redis.call('HGET', bucket, name) or '')
end

local function keep(name, value)
  redis.call('HSET', bucket, name, string.format('%.6f', value))
end

redis.call('ZADD', peers, now, peer)
redis.call('ZREMRANGEBYSCORE', peers, '-inf', now - PEER_MS)

local elapsed = math.max(0, now - (field('at') or now))
local cost, limit, level, share = {}, {}, {}, 0
for i, kind in ipairs(KINDS) do
  cost[kind] = tonumber(ARGV[4 + i])
  local configured, observed = tonumber(ARGV[7 + i]), field('limit:' .. kind)
  if configured and observed then
    limit[kind] = math.min(configured, observed)
  else
    limit[kind] = configured or observed
  end
  if limit[kind] then
    local most = limit[kind] * burst
    local before = field('level:' .. kind) or most
    -- What was given back may stand above the brim: it had been taken from what flowed in.
    level[kind] = math.min(before + elapsed * limit[kind] / 60000, math.max(before, most))
    keep('level:' .. kind, level[kind])
    share = math.max(share, cost[kind] / limit[kind])
  end
end
keep('at', now)

-- Its place in the queue; virtual time is counted in minutes of the scarcest limit.
local virtual = field('virtual') or 0
local start = tonumber(redis.call('ZSCORE', queue, ticket) or '')
if not start then
  start = math.max(virtual, tonumber(redis.call('ZSCORE', users, user) or '') or 0)
  redis.call('ZADD', queue, start, ticket)
  redis.call('ZADD', users, start + share, user)
end
local place = { now + PLACE_MS, cost.requests, cost.input, cost.output }
redis.call('HSET', tickets, ticket, table.concat(place, ' '))

-- What those before it will take; who has not asked for long has gone.
local ahead = { requests = 0, input = 0, output = 0 }
for _, other in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
  if other == ticket then
    break
  end
  local place_of_other = redis.call('HGET', tickets, other) or '0 0 0 0'
  local until_ms, requests, input, output = string.match(place_of_other, '^(%S+) (%S+) (%S+) (%S+)$')
  if tonumber(until_ms) < now then
    redis.call('ZREM', queue, other)
    redis.call('HDEL', tickets, other)
  else
    ahead.requests = ahead.requests + tonumber(requests)
    ahead.input = ahead.input + tonumber(input)
    ahead.output = ahead.output + tonumber(output)
  end
end

local wait = math.max(0, (field('pause') or 0) - now)
if not next(limit) and redis.call('HEXISTS', bucket, 'seen') == 0 then
  -- Nobody knows the limits yet: one call finds out, before a crowd runs into them.
  local probe = field('probe') or 0
  if probe > now then
    -- Its answer begins long before it ends.
    wait = math.max(wait, math.min(probe - now, SOON_MS))
  elseif wait == 0 then
    keep('probe', now + PROBE_MS)
  end
end
for kind, per_minute in pairs(limit) do
  -- A call that is larger than the bucket passes when the bucket is full.
  local needed = ahead[kind] + math.min(cost[kind], per_minute * burst)
  wait = math.max(wait, (needed - level[kind]) * 60000 / per_minute)
end

local granted = 0
if wait <= 0 then
  granted = 1
  for kind in pairs(limit) do
    keep('level:' .. kind, level[kind] - cost[kind])
  end
  redis.call('ZREM', queue, ticket)
  redis.call('HDEL', tickets, ticket)
  keep('virtual', math.max(virtual, start))
  redis.call('ZREMRANGEBYSCORE', users, '-inf', math.max(virtual, start))
end
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, KEEP_MS)
end
local answer = { granted, math.ceil(wait), redis.call('ZCARD', peers) }
for i, kind in ipairs(KINDS) do
  answer[3 + i] = limit[kind] and string.format('%.0f', limit[kind]) or ''
end
return answer
