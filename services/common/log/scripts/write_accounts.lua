-- Write the names of accounts and what is kept in confidence of them, as append.lua does, for the owner that holds the
-- fence. Repeatable, and one write for the append-only file, however many there are.
--
-- KEYS: 1 meta hash, then the prefixes 2 names, 3 e-mails, 4 credentials
-- ARGV: 1 fence, then of each account: id, name in lower case, e-mail HMAC ('' where nothing but the name is kept),
--       username, e-mail, password hash, positions of the last revocation, suspension and change
local ARGUMENTS_OF_ACCOUNT = 9

local fence = redis.call('HGET', KEYS[1], 'fence')
if fence ~= ARGV[1] then return redis.error_reply('FENCE ' .. (fence or '0')) end
for first = 2, #ARGV, ARGUMENTS_OF_ACCOUNT do
  local id, name, hmac, username, email, password_hash, revoked, suspended, position =
    unpack(ARGV, first, first + ARGUMENTS_OF_ACCOUNT - 1)
  redis.call('SET', KEYS[2] .. name, id)
  if hmac ~= '' then
    redis.call('SET', KEYS[3] .. hmac, id)
    redis.call('HSET', KEYS[4] .. id, 'username', username, 'email', email, 'email_hmac', hmac,
      'password_hash', password_hash, 'revoked_position', revoked, 'suspended_position', suspended,
      'position', position)
  end
end
