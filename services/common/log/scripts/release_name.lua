-- Give back the name and e-mail of an account that the projection rejected; does nothing the second time.
-- KEYS: 1 its credentials, then the prefixes 2 names, 3 e-mails    ARGV: 1 user id
local held = redis.call('HMGET', KEYS[1], 'username', 'email_hmac')
local released = 0
for prefix_number, name in ipairs({held[1] and string.lower(held[1]), held[2]}) do
  local key = name and KEYS[1 + prefix_number] .. name
  if key and redis.call('GET', key) == ARGV[1] then released = released + redis.call('DEL', key) end
end
redis.call('DEL', KEYS[1])
return released
