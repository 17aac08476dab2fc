-- Makes a code, unless one stands there that can be sent again.
--
-- ARGV[2]   its nonce
-- ARGV[3]   its seed
-- ARGV[4]   what is sealed, of one that is sent again as well
-- ARGV[5]   how long it is good for, microseconds
-- ARGV[6]   how long it is remembered after that
-- ARGV[7]   how long one must be good for to be sent again
-- ARGV[8]   how many guesses it takes
-- returns   what is found: 0 a new card, 1 the one that stood there
local card, fault = held()
if fault then return fault end
if card and standing(card) == GOOD and now_us + ARGV[7] <= card.expires then
  card.sends = math.min(card.sends + 1, 65535)
  card.sealed = ARGV[4]
  call('HSET', KEYS[1], 'sends', digits(card.sends), 'sealed', card.sealed)
  return reply(1, card)
end

local expires = now_us + ARGV[5]
card = {
  nonce = ARGV[2], seed = ARGV[3], sealed = ARGV[4], most = ARGV[8] + 0, attempts = 0, sends = 1,
  opened = now_us, expires = expires, kept = expires + ARGV[6],
}
call('DEL', KEYS[1])
call('HSET', KEYS[1], 'nonce', card.nonce, 'seed', card.seed, 'sealed', card.sealed, 'most', ARGV[8],
  'attempts', '0', 'sends', '1', 'opened', digits(now_us), 'expires', digits(expires), 'kept', digits(card.kept))
expire(card.kept)
return reply(0, card)
