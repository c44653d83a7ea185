-- Remove entries below an id, for the owner that holds the fence.
-- KEYS: 1 stream, 2 meta hash    ARGV: 1 fence, 2 lowest entry id to keep
local fence = redis.call('HGET', KEYS[2], 'fence')
if fence ~= ARGV[1] then return redis.error_reply('FENCE ' .. (fence or 'none')) end
return redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2])
