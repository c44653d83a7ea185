-- Remove entries up to a position, and the deletions among them, for the owner that holds the fence.
-- KEYS: 1 stream, 2 meta hash, 3 deletions    ARGV: 1 fence, 2 lowest entry id to keep, 3 position trimmed up to
local fence = redis.call('HGET', KEYS[2], 'fence')
if fence ~= ARGV[1] then return redis.error_reply('FENCE ' .. (fence or '0')) end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[3])
return redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2])
