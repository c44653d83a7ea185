-- The owner declares its state at `base` the truth from which the log continues, and lifts a halt.
-- KEYS: 1 stream, 2 meta hash    ARGV: 1 fence, 2 epoch, 3 base position, 4 type, 5 version, 6 payload
-- Answer: the position of the entry, or an error FENCE / EPOCH.
local stream, meta = KEYS[1], KEYS[2]
local epoch, base = tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', meta, 'head', 'fence', 'epoch', 'reported')
if state[2] ~= ARGV[1] then return redis.error_reply('FENCE ' .. (state[2] or 'none')) end
if epoch <= tonumber(state[3] or '0') then return redis.error_reply('EPOCH ' .. state[3]) end

-- Above every position that anybody has reported, so that no id is ever given twice.
local above = math.max(base, tonumber(state[1] or '0'), tonumber(state[4] or '0'))
local position = next_position(time_ms(), above)
redis.call('XADD', stream, entry_id(position), 'e', ARGV[4], 'v', ARGV[5], 'p', digits(base), 'd', ARGV[6])
redis.call('HSET', meta, 'head', digits(position), 'epoch', digits(epoch))
redis.call('HDEL', meta, 'halt', 'reported')
return digits(position)
