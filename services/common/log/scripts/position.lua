-- Prepended to the scripts that append. Positions are doubles below 2^53, so sums are exact;
-- they are printed with %.0f only, because tostring, .. and cjson lose digits (HAZARDS 13).
local EPOCH_MS = 1735689600000
local SEQUENCES_PER_MS = 4096
local SKIPPED_MAX = 1024

-- The time in milliseconds, and the microseconds of this second.
local function clock()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000), tonumber(now[2])
end

local function digits(number)
  return string.format('%.0f', number)
end

-- The first position of this millisecond, or one after `head` where the clock stands still or went back. Not just the
-- next one then: a log that came back older would give again what it has given before, and nobody could tell by it.
local function first_position(now_ms, micros, head)
  local timed = (now_ms - EPOCH_MS) * SEQUENCES_PER_MS
  return timed > head and timed or head + 1 + micros % SKIPPED_MAX
end

local function unix_ms_of(position)
  return math.floor(position / SEQUENCES_PER_MS) + EPOCH_MS
end

local function entry_id(position)
  return digits(unix_ms_of(position)) .. '-' .. digits(position % SEQUENCES_PER_MS)
end
