-- The usual sliding log, once for each window: all windows admit, or nothing is written.
--
-- KEYS[i]        the log of the i-th window
-- ARGV[1], [2]   now in milliseconds, and a name for this request that no other has
-- ARGV[2i+1..]   the i-th window: how many, in how many milliseconds
-- returns        1 if admitted, else 0
local now, member = tonumber(ARGV[1]), ARGV[2]
for i = 1, #KEYS do
  local max, span = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now - span)
  if redis.call('ZCARD', KEYS[i]) >= max then return 0 end
end
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], now, member)
  redis.call('PEXPIRE', KEYS[i], ARGV[2 * i + 2])
end
return 1
