-- Stands before each step with a code: the card of its slot.
--
-- KEYS[1]   a hash: nonce, seed, sealed; opened, expires, kept and, once it is used, used, in microseconds since the
--           epoch; attempts, most, sends; and `d` with its number for each attempt to deliver it: rank u8, when it
--           began u56, when that changed u56, what else is known of it
local NUMBERS = { 'opened', 'expires', 'kept', 'attempts', 'most', 'sends' }
local GOOD, USED, EXPIRED, EXHAUSTED, UNKNOWN = 0, 1, 2, 3, 4

-- The card that is kept, if there is one; an error if what is kept is no card.
local function held()
  local flat = call('HGETALL', KEYS[1])
  if #flat == 0 then return nil end
  local card = {}
  for i = 1, #flat, 2 do card[flat[i]] = flat[i + 1] end
  for _, field in ipairs(NUMBERS) do
    card[field] = tonumber(card[field] or '')
    if not card[field] then return nil, redis.error_reply('GARBAGE ' .. KEYS[1] .. ' is no card of ours') end
  end
  return card.kept > now_us and card or nil
end

local function standing(card)
  if card.used then return USED end
  if card.expires <= now_us then return EXPIRED end
  return card.attempts >= card.most and EXHAUSTED or GOOD
end

-- {seconds, microseconds, what was found or done, and each field of the card with its value}
local function reply(said, card)
  local answer = { sec, usec, said }
  for field, value in pairs(card or {}) do
    answer[#answer + 1] = field
    answer[#answer + 1] = type(value) == 'number' and digits(value) or value
  end
  return answer
end

