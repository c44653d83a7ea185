-- Leases parts of quotas. KEYS: one counter for each lease asked for.
-- ARGV, four for each: units spent already without a lease, units wanted, the quota, the counter's life in ms.
-- Answers for each: units granted, units used up in all.
local answers = {}
for number, key in ipairs(KEYS) do
  local first = (number - 1) * 4
  local spent, wanted = tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
  local quota, life_ms = tonumber(ARGV[first + 3]), ARGV[first + 4]
  local used = tonumber(redis.call('GET', key) or '0') + spent
  local granted = math.max(0, math.min(wanted, quota - used))
  used = used + granted
  if spent + granted > 0 then
    redis.call('SET', key, string.format('%.0f', used), 'PX', life_ms)
  end
  answers[number] = { granted, used }
end
return answers
