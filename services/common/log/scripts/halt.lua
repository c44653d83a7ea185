#!lua flags=allow-oom
-- A follower found that the log holds less than it had acknowledged: no more writes until the owner decides.
-- The first reason stays; the greatest position reported decides where the next epoch starts.
-- KEYS: 1 stream, 2 meta hash
-- ARGV: 1 reason, 2 position of the follower, 3 what shows it: 'head' (the log ends before the position), the entry id
--       of an entry that does not continue from it, or 'owner' (who needs to show nothing)
-- Answer: 1, or 0 where that is no longer so: between the follower's look and its report the owner started an epoch.
local position, evidence = tonumber(ARGV[2]), ARGV[3]
local state = redis.call('HMGET', KEYS[2], 'head', 'halt', 'reported')

local function is_shown()
  if evidence == 'owner' or tonumber(state[1] or '0') < position then return true end
  return evidence ~= 'head' and #redis.call('XRANGE', KEYS[1], evidence, evidence) > 0
end

if not state[2] then
  if not is_shown() then return 0 end
  redis.call('HSET', KEYS[2], 'halt', ARGV[1])
end
if position > tonumber(state[3] or '0') then redis.call('HSET', KEYS[2], 'reported', ARGV[2]) end
return 1
