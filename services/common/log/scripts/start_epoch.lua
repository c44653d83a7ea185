-- The owner declares its state at `base` the truth from which the log continues, and lifts a halt.
-- What the stream still holds goes, in the same call: the owner has archived what is part of its history and put the
-- rest aside, and nobody may apply that any more. Of earlier calls only the numbers stay: their entries may be gone.
--
-- KEYS: 1 stream, 2 meta hash, 3 calls, 4 deletions
-- ARGV: 1 fence, 2 epoch, 3 base position, 4 entries up to it, 5 head and 6 reported position that the owner has seen,
--       7 owner's clock (ms), 8 type, 9 version, 10 payload
-- Answer: the position of the entry, or an error FENCE / EPOCH / CHANGED / CLOCK, and nothing was written.
local CLOCK_AHEAD_MS_MAX = 3600000

local stream, meta = KEYS[1], KEYS[2]
local epoch, base = tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', meta, 'head', 'fence', 'epoch', 'reported')
local head, reported = tonumber(state[1] or '0'), tonumber(state[4] or '0')
if state[2] ~= ARGV[1] then return redis.error_reply('FENCE ' .. (state[2] or '0')) end
if epoch <= tonumber(state[3] or '0') then return redis.error_reply('EPOCH ' .. state[3]) end
if head ~= tonumber(ARGV[5]) or reported ~= tonumber(ARGV[6]) then
  return redis.error_reply('CHANGED to ' .. digits(head) .. ', reported ' .. digits(reported))
end

-- Above every position that anybody has reported, so that no id is ever given twice.
local above = math.max(base, head, reported)
local now_ms, micros = clock()
if now_ms > math.max(unix_ms_of(above), tonumber(ARGV[7])) + CLOCK_AHEAD_MS_MAX then
  return redis.error_reply('CLOCK ' .. digits(now_ms))
end
local position = first_position(now_ms, micros, above)

-- Without the stream's last id too, which a record of another program may have put into the far future.
redis.call('UNLINK', stream, KEYS[4])
redis.call('XADD', stream, entry_id(position), 'e', ARGV[8], 'v', ARGV[9], 'p', digits(base), 'd', ARGV[10])
redis.call('XSETID', stream, entry_id(position), 'ENTRIESADDED', digits(tonumber(ARGV[4]) + 1))
redis.call('HSET', meta, 'head', digits(position), 'epoch', digits(epoch))
redis.call('HDEL', meta, 'halt', 'reported')
for _, session in ipairs(redis.call('HKEYS', KEYS[3])) do
  local number = string.match(redis.call('HGET', KEYS[3], session), '^%d+')
  redis.call('HSET', KEYS[3], session, number .. ' ' .. digits(position) .. ' deadline_forgotten')
end
return digits(position)
