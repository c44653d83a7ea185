#!lua flags=allow-oom
-- Somebody was at a position that the log no longer holds, nor anything before it: the owner looks whether it was history.
-- KEYS: 1 abandoned positions    ARGV: 1 position
return redis.call('SADD', KEYS[1], ARGV[1])
