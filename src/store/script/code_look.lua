-- Tells what is kept.
--
-- returns   0, then the card; or 4, there is none
local card, fault = held()
if fault then return fault end
return reply(card and GOOD or UNKNOWN, card)
