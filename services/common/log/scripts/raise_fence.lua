#!lua flags=allow-oom
-- A new owner takes over: from now on only its fence may trim and start epochs.
-- KEYS: 1 meta hash    ARGV: 1 the greatest fence its database knows
local fence = math.max(tonumber(redis.call('HGET', KEYS[1], 'fence') or '0'), tonumber(ARGV[1])) + 1
redis.call('HSET', KEYS[1], 'fence', string.format('%.0f', fence))
return fence
