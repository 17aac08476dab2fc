-- Takes down what is known of an attempt to deliver a code, unless that much is known already.
--
-- ARGV[2]   the nonce of the code
-- ARGV[3]   the number of the attempt
-- ARGV[4]   the rank of what is known of it
-- ARGV[5]   how long ago it began, microseconds
-- ARGV[6]   how long ago it came to be so
-- ARGV[7]   what else is known of it
-- ARGV[8]   of how many attempts something is kept
-- returns   what is found: 0 nothing new, 1 it is taken down, 4 no such code; but for the last then the card
local card, fault = held()
if fault then return fault end
if not card or ARGV[2] ~= card.nonce then return reply(UNKNOWN) end

local field, began = 'd' .. ARGV[3], math.max(0, now_us - ARGV[5])
if card[field] then
  local rank, first = struct.unpack('<BI7', card[field])
  if ARGV[4] + 0 <= rank then return reply(0, card) end
  began = first
else
  local count, lowest = 0, 256
  for name in pairs(card) do
    local number = string.match(name, '^d(%d+)$')
    if number then count, lowest = count + 1, math.min(lowest, number + 0) end
  end
  if count >= ARGV[8] + 0 then
    if ARGV[3] + 0 < lowest then return reply(0, card) end
    card['d' .. lowest] = nil
    call('HDEL', KEYS[1], 'd' .. lowest)
  end
end
card[field] = struct.pack('<BI7I7', ARGV[4] + 0, began, math.max(0, now_us - ARGV[6])) .. ARGV[7]
call('HSET', KEYS[1], field, card[field])
return reply(1, card)
