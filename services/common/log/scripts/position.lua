-- Prepended to the scripts that append. Positions are doubles below 2^53, so sums are exact;
-- they are printed with %.0f only, because tostring, .. and cjson lose digits (HAZARDS 13).
local EPOCH_MS = 1735689600000
local SEQUENCES_PER_MS = 4096

local function time_ms()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
end

local function digits(number)
  return string.format('%.0f', number)
end

-- The first position of this millisecond, or the one after `head` where the clock stands still or went back.
local function next_position(now_ms, head)
  return math.max((now_ms - EPOCH_MS) * SEQUENCES_PER_MS, head + 1)
end

local function unix_ms_of(position)
  return math.floor(position / SEQUENCES_PER_MS) + EPOCH_MS
end

local function entry_id(position)
  return digits(unix_ms_of(position)) .. '-' .. digits(position % SEQUENCES_PER_MS)
end
