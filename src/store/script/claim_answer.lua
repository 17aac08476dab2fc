-- Keeps the answer to a request that is claimed still.
--
-- KEYS[1]   see claim_take.lua
-- ARGV[2]   the answer
-- ARGV[3]   how long it is kept, microseconds
-- returns   {seconds, microseconds, 1 if it is kept or 0}
local ends = call('HGET', KEYS[1], 'ends')
if not ends or ends + 0 <= now_us then return { sec, usec, 0 } end
ends = now_us + ARGV[3]
call('HSET', KEYS[1], 'answer', ARGV[2], 'ends', digits(ends))
expire(ends)
return { sec, usec, 1 }
