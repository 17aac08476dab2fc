-- Lets a claim go that is not answered.
--
-- KEYS[1]   see claim_take.lua
-- returns   {seconds, microseconds, 1 if there was one or 0}
if call('HEXISTS', KEYS[1], 'answer') == 1 then return { sec, usec, 0 } end
return { sec, usec, call('DEL', KEYS[1]) }
