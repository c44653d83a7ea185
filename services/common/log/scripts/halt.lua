-- A follower found that the log holds less than it had acknowledged: no more writes until the owner decides.
-- The first reason stays; the greatest position reported decides where the next epoch starts.
-- KEYS: 1 meta hash    ARGV: 1 reason, 2 position of the follower
redis.call('HSETNX', KEYS[1], 'halt', ARGV[1])
local reported = tonumber(redis.call('HGET', KEYS[1], 'reported') or '0')
if tonumber(ARGV[2]) > reported then redis.call('HSET', KEYS[1], 'reported', ARGV[2]) end
return 1
