-- Claims a request that must not be made twice.
--
-- KEYS[1]   a hash: what tells requests apart that bear the same name, when the claim is over in microseconds since
--           the epoch, and the answer once there is one
-- ARGV[2]   what tells the request apart
-- ARGV[3]   how long it is pending at most, microseconds
-- returns   {seconds, microseconds, 0 claimed, 1 pending, 2 answered, 3 another one bears the name; then the answer}
local known = call('HMGET', KEYS[1], 'mark', 'ends', 'answer')
if known[2] and known[2] + 0 > now_us then
  if known[1] ~= ARGV[2] then return { sec, usec, 3 } end
  if known[3] then return { sec, usec, 2, known[3] } end
  return { sec, usec, 1 }
end
local ends = now_us + ARGV[3]
call('DEL', KEYS[1])
call('HSET', KEYS[1], 'mark', ARGV[2], 'ends', digits(ends))
expire(ends)
return { sec, usec, 0 }
