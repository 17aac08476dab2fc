-- Uses a code up. That its guesses are used up does not matter: the last of them may have been right.
--
-- ARGV[2]   the nonce of the code
-- returns   0 it is used up now, then the card; or else 1 it was used, 2 it has expired, 4 it is another one or none
local card, fault = held()
if fault then return fault end
if not card or ARGV[2] ~= card.nonce then return reply(UNKNOWN) end
local found = standing(card)
if found == USED or found == EXPIRED then return reply(found) end
card.used = now_us
call('HSET', KEYS[1], 'used', digits(now_us))
return reply(GOOD, card)
