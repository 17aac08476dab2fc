-- Counts a guess, if there may be one. Writes in any case, so that the time tells nothing.
--
-- ARGV[2]   the nonce of the code, or empty for any
-- returns   what is found: 0 it is counted, then the card; or else 1 used, 2 expired, 3 exhausted, 4 unknown
local card, fault = held()
if fault then return fault end
if not card then
  call('HSET', KEYS[1], 'attempts', '0')
  call('DEL', KEYS[1])
  return reply(UNKNOWN)
end
local found = standing(card)
if ARGV[2] ~= '' and ARGV[2] ~= card.nonce then found = UNKNOWN end
if found == GOOD then card.attempts = math.min(card.attempts + 1, 255) end
call('HSET', KEYS[1], 'attempts', digits(card.attempts))
return reply(found, found == GOOD and card or nil)
