-- Append a batch of events in one atomic call: decide for every item first, then write with commands that
-- cannot fail (Redis isolates a script but does not roll it back).
--
-- KEYS: 1 stream, 2 meta hash, 3 calls, then the prefixes 4 names, 5 e-mails, 6 credentials;
--       7 the deletions that the log holds, 8 prefix of idempotency answers, 9 the hours of which there are some,
--       10 abandoned positions
-- ARGV: 1 session, 2 number of the call in it, 3 deadline (ms of Redis TIME), 4 greatest position the writer has seen,
--       5 writer's clock (ms), 6 seconds to hold the names of deleted accounts, 7 hours to remember idempotency keys,
--       8 1 to append nothing because the log is full, 9 number of items, then each item:
--         kind, type, version, payload, target, id of who acts or 0, position of the token or -1 for none,
--         scope and fingerprint of its idempotency key ('' for none); and for kind
--         'user':    explicit id or 0, name in lower case, username, e-mail HMAC, e-mail, password hash
--         'tweet':   explicit id or 0
--         'account': user id, 1 for its deletion, 1 to revoke its tokens, 'suspended' or 'reinstated' ('': as is);
--                    e-mail HMAC, e-mail, password hash ('': as is)
--         'deletion': member of the deletions
-- Answer: 'ok <time_ms> <head> <result>...', each result a position, '=<position>' of the same appended before under
--         the same idempotency key, or the word why it was refused;
--         or 'refused <time_ms> <head> <why>', and nothing was written.
local DEADLINE_AHEAD_MS_MAX = 5000
local SESSIONS_MAX = 1024
local CLOCK_AHEAD_MS_MAX = 3600000
local HOUR_MS = 3600000
local SCOPE_BYTES = 16
local PASSED, FORGOTTEN = 'deadline_passed', 'deadline_forgotten'

local stream, meta = KEYS[1], KEYS[2]
local calls, names, emails, credentials, deletions = KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local answers, answer_hours = KEYS[8], KEYS[9]
local session, number, deadline_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local seen, clock_ms = tonumber(ARGV[4]), tonumber(ARGV[5])
local is_full = ARGV[8] == '1'

local now_ms, micros = clock()
local state = redis.call('HMGET', meta, 'head', 'epoch', 'halt', 'reported', 'version')
local head = tonumber(state[1] or '0')

local function refuse(why)
  return 'refused ' .. digits(now_ms) .. ' ' .. digits(head) .. ' ' .. why
end

-- Of each session the answer to its last call is kept. It makes the next one when it waits for this one no longer, so a
-- copy of an earlier call is late, and a copy of this one gets the answer that it has got. No clock has a part in it.
local kept = redis.call('HGET', calls, session)
local kept_number = tonumber(kept and string.match(kept, '^%d+') or 0)
if number < kept_number then return refuse('call_superseded') end
if kept and number == kept_number then
  local first_answer = string.match(kept, '^%d+ (.*)$')
  local why = string.match(first_answer, '^%d+ (%l.*)$')
  if why == PASSED or why == FORGOTTEN then return refuse(why) end
  return 'ok ' .. digits(now_ms) .. ' ' .. first_answer
end
local is_unknown = number > 1 and not kept

-- Those that were used longest ago go first, by the head of the log then.
local function drop_old_sessions()
  local held, ages = redis.call('HGETALL', calls), {}
  for i = 1, #held, 2 do ages[#ages + 1] = {tonumber(string.match(held[i + 1], '^%d+ (%d+)')), held[i]} end
  table.sort(ages, function(one, other) return one[1] < other[1] end)
  for i = 1, #ages / 2 do redis.call('HDEL', calls, ages[i][2]) end
end

local function keep_answer(answer)
  if number == 0 then return end -- sent once, and never again
  if not kept and redis.call('HLEN', calls) >= SESSIONS_MAX then drop_old_sessions() end
  redis.call('HSET', calls, session, digits(number) .. ' ' .. answer)
end

-- Whether the log no longer holds an entry that this writer knows to be acknowledged. Of one with nothing before it either
-- only the owner knows whether it was trimmed, or lost before an epoch.
local is_abandoned = false
local function has_lost_entries()
  if seen >= head then return seen > head end
  if seen == 0 then return false end -- below all entries Redis would walk through every one of them
  local newest = redis.call('XREVRANGE', stream, entry_id(seen), '-', 'COUNT', 1)[1]
  is_abandoned = not newest
  return newest and newest[1] ~= entry_id(seen)
end

local is_forked = has_lost_entries()
if now_ms > deadline_ms then
  -- Proof that the call never ran, unless the log has lost entries and the answers with them. And never will: a copy
  -- may still be on its way, and the clock may step back before it is here.
  if is_unknown or is_forked or state[3] or not state[2] then return refuse(FORGOTTEN) end
  keep_answer(digits(head) .. ' ' .. PASSED)
  return refuse(PASSED)
end
if deadline_ms > now_ms + DEADLINE_AHEAD_MS_MAX then return refuse('deadline_too_far') end
if is_forked then
  -- Also where the log is halted or not started: the next epoch must lie above what anybody has seen.
  redis.call('HSETNX', meta, 'halt', 'a writer had seen ' .. digits(seen) .. ', which the log no longer has')
  if seen > tonumber(state[4] or '0') then redis.call('HSET', meta, 'reported', digits(seen)) end
  if not state[3] then return refuse('log_forked') end
end
if state[3] then return refuse('halted') end
if not state[2] then return refuse('not_started') end
if is_unknown and not is_full then return refuse('session_unknown') end
if now_ms > math.max(unix_ms_of(head), clock_ms) + CLOCK_AHEAD_MS_MAX then return refuse('clock_ahead') end

-- Decide.
local results, accepted, claimed = {}, {}, {}
local revoked, suspended, deleted = {}, {}, {} -- accounts, by what this call has already decided
local answered = {} -- by scope, what this call has already decided
local argument = 10
local function take()
  local value = ARGV[argument]
  argument = argument + 1
  return value
end

-- The name of a deleted account is kept as '-' and the Unix millisecond from which it is free again. Not as a key that
-- expires: those are evicted, all of them, before the log runs out of memory.
local function taken(key)
  local holder = claimed[key] or redis.call('GET', key)
  if holder and holder ~= true and string.sub(holder, 1, 1) == '-' then
    return now_ms < tonumber(string.sub(holder, 2))
  end
  return holder
end

local function is_gone(user)
  return deleted[user] or redis.call('EXISTS', credentials .. user) == 0
end

-- Why this account may not act, or not with a token of this position (-1: without one); nil if it may. Nothing is
-- appended for an account that is gone: nobody would ever see it.
local function why_barred(actor, token_position)
  local held = redis.call('HMGET', credentials .. actor, 'revoked_position', 'suspended_position', 'username')
  local is_suspended = suspended[actor]
  if is_suspended == nil then is_suspended = tonumber(held[2] or '0') > 0 end
  if is_suspended and not deleted[actor] then return 'account_suspended' end
  local has_left = (deleted[actor] or not held[3]) and not claimed[credentials .. actor]
  if token_position < 0 then return has_left and 'actor_gone' or nil end
  if token_position < (revoked[actor] or tonumber(held[1] or '0')) or has_left then return 'token_revoked' end
end

local function hour_of(position)
  return math.floor(unix_ms_of(position) / HOUR_MS)
end

-- '<position>:<fingerprint>' of what was appended under an idempotency key. They are kept in one hash an hour, which no
-- time to live may evict (HAZARDS 3); the owner drops it when its hour is out of the window.
local function hashes_in_window()
  local first_hour = hour_of(first_position(now_ms, micros, head)) - tonumber(ARGV[7])
  local hashes = {}
  for _, hour in ipairs(redis.call('SMEMBERS', answer_hours)) do
    if tonumber(hour) >= first_hour then hashes[#hashes + 1] = answers .. hour end
  end
  return hashes
end

local hashes = nil
local function answer_under(scope)
  if answered[scope] then return answered[scope] end
  hashes = hashes or hashes_in_window()
  for _, hash in ipairs(hashes) do
    local answer = redis.call('HGET', hash, scope)
    if answer then return answer end
  end
end

local function repetition(item)
  local answer = answer_under(item.scope)
  if not answer then return nil end
  local colon = string.find(answer, ':', 1, true)
  if string.sub(answer, colon + 1) ~= item.fingerprint then return 'idempotency_mismatch' end
  return '=' .. string.sub(answer, 1, colon - 1)
end

local position, position_digits = head, digits(head)
for item_number = 1, tonumber(ARGV[9]) do
  local item = {kind = take(), type = take(), version = take(), payload = take(), target = tonumber(take())}
  local actor, token_position = take(), tonumber(take())
  item.claim = take()
  local why = nil
  if item.kind == 'user' then
    item.id = take()
    item.name_key = names .. take()
    item.username = take()
    item.hmac = take()
    item.email_key = emails .. item.hmac
    item.email = take()
    item.password_hash = take()
    local id_key = credentials .. item.id
    if item.id ~= '0' and (claimed[id_key] or redis.call('EXISTS', id_key) == 1) then why = 'id_taken'
    elseif taken(item.name_key) then why = 'username_taken'
    elseif taken(item.email_key) then why = 'email_taken'
    end
  elseif item.kind == 'tweet' then
    item.id = take()
  elseif item.kind == 'deletion' then
    item.deletion = take()
  elseif item.kind == 'account' then
    item.user = take()
    item.is_deletion, item.revokes, item.suspension = take() == '1', take() == '1', take()
    item.hmac, item.email, item.password_hash = take(), take(), take()
    item.email_key = emails .. item.hmac
    if is_gone(item.user) then why = 'not_found'
    elseif item.hmac ~= '' and taken(item.email_key) and redis.call('GET', item.email_key) ~= item.user then
      why = 'email_taken'
    end
  end
  if not why and item.target > head then why = 'not_found' end
  if item.claim ~= '' then
    item.scope, item.fingerprint = string.sub(item.claim, 1, SCOPE_BYTES), string.sub(item.claim, SCOPE_BYTES + 1)
    why = repetition(item) or why
  end
  local bar = actor ~= '0' and why_barred(actor, token_position)
  if bar and not (bar == 'actor_gone' and why) then why = bar end
  -- An owner that does not know this type would stop before it (HAZARDS 5).
  if not why and tonumber(item.version) > tonumber(state[5] or '1') then why = 'owner_outdated' end
  if is_full and not why then why = 'log_full' end
  if why then
    results[item_number] = why
  else
    item.prev = position_digits
    position = #accepted == 0 and first_position(now_ms, micros, head) or position + 1
    position_digits = digits(position)
    item.position, item.digits = position, position_digits
    if item.id == '0' then item.id = position_digits end
    if item.kind == 'user' then
      claimed[credentials .. item.id] = true
      claimed[item.name_key] = true
      claimed[item.email_key] = true
    elseif item.kind == 'account' then
      if item.is_deletion then deleted[item.user] = true end
      if item.revokes then revoked[item.user] = position end
      if item.suspension ~= '' then suspended[item.user] = item.suspension == 'suspended' end
      if item.hmac ~= '' then claimed[item.email_key] = true end
    end
    if item.claim ~= '' then answered[item.scope] = position_digits .. ':' .. item.fingerprint end
    results[item_number] = position_digits
    accepted[#accepted + 1] = item
  end
end

local function write_account(item)
  local key = credentials .. item.user
  local held = redis.call('HMGET', key, 'username', 'email_hmac')
  if item.is_deletion then
    redis.call('DEL', key, emails .. held[2])
    redis.call('SET', names .. string.lower(held[1]), '-' .. digits(now_ms + tonumber(ARGV[6]) * 1000))
    return
  end
  if item.hmac ~= '' then
    redis.call('DEL', emails .. held[2])
    redis.call('SET', item.email_key, item.user)
    redis.call('HSET', key, 'email', item.email, 'email_hmac', item.hmac)
  end
  if item.password_hash ~= '' then redis.call('HSET', key, 'password_hash', item.password_hash) end
  if item.revokes then redis.call('HSET', key, 'revoked_position', item.digits) end
  if item.suspension == 'suspended' then redis.call('HSET', key, 'suspended_position', item.digits) end
  if item.suspension == 'reinstated' then redis.call('HDEL', key, 'suspended_position') end
  redis.call('HSET', key, 'position', item.digits)
end

-- Write: XADD first, because Redis checks for memory at a script's first write only (HAZARDS 12).
for _, item in ipairs(accepted) do
  local fields = {'e', item.type, 'v', item.version, 'p', item.prev, 'd', item.payload}
  if item.claim ~= '' then fields[9], fields[10] = 'i', item.claim end
  redis.call('XADD', stream, entry_id(item.position), unpack(fields))
end
local answer = position_digits .. ' ' .. table.concat(results, ' ')
if #accepted > 0 then
  redis.call('HSET', meta, 'head', position_digits)
  for _, item in ipairs(accepted) do
    if item.kind == 'user' then
      redis.call('SET', item.name_key, item.id)
      redis.call('SET', item.email_key, item.id)
      redis.call('HSET', credentials .. item.id, 'username', item.username, 'email', item.email,
        'email_hmac', item.hmac, 'password_hash', item.password_hash, 'position', item.digits)
    elseif item.kind == 'deletion' then
      redis.call('ZADD', deletions, item.digits, item.deletion)
    elseif item.kind == 'account' then
      write_account(item)
    end
    if item.claim ~= '' then
      local hour = digits(hour_of(item.position))
      redis.call('HSET', answers .. hour, item.scope, answered[item.scope])
      redis.call('SADD', answer_hours, hour)
    end
  end
  keep_answer(answer)
end
if is_abandoned then redis.call('SADD', KEYS[10], digits(seen)) end
return 'ok ' .. digits(now_ms) .. ' ' .. answer
