-- Delete entries of one page that were delivered and are pending for nobody: none will be read.
-- KEYS: stream
-- ARGV: group, after, count
-- returns: how many were deleted, the last one looked at (empty: that was the last page)
local stream, group, after, count = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local groups = redis.pcall('XINFO', 'GROUPS', stream)
if groups.err then
  return string.find(groups.err, 'no such key', 1, true) and { 0, '' } or groups
end
-- Without the group nothing was delivered, and a group made anew begins at 0-0.
local delivered = '0-0'
for _, fields in ipairs(groups) do
  local described = {}
  for i = 1, #fields, 2 do
    described[fields[i]] = fields[i + 1]
  end
  if described['name'] == group then
    delivered = described['last-delivered-id']
  end
end

local page = redis.call('XRANGE', stream, '(' .. after, delivered, 'COUNT', count)
local deleted = 0
for _, entry in ipairs(page) do
  if not redis.call('XPENDING', stream, group, entry[1], entry[1], 1)[1] then
    deleted = deleted + redis.call('XDEL', stream, entry[1])
  end
end
return { deleted, #page == count and page[count][1] or '' }
