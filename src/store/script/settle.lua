-- Settles attempts by what became of them, each key by itself.
--
-- KEYS[i]      the counter of the i-th attempt
-- ARGV[1]      the time in microseconds since the epoch, or empty for the server's own
-- ARGV[2i]     what became of it (0 neither, 1 a failure, 2 a success) u8, until when it was leased u48 ms, and the
--              limit, packed
-- ARGV[2i+1]   how long its counter matters, milliseconds
-- returns      {seconds, microseconds, how many blocks began, the state of each key as it was found}
local sec, usec
if ARGV[1] == '' then
  local time = redis.call('TIME')
  sec, usec = time[1] + 0, time[2] + 0
else
  usec = ARGV[1] % 1000000
  sec = (ARGV[1] - usec) / 1000000
end
local now_us = sec * 1000000 + usec
local now_ms = (now_us - now_us % 1000) / 1000
local at_ms = now_us % 1000 == 0 and now_ms or now_ms + 1
local rare = others(sec, usec, now_us, now_ms, at_ms, has_large, others)

local reply = { sec, usec, 0 }
for i = 1, #KEYS do
  local terms, state = ARGV[2 * i], redis.call('GET', KEYS[i])
  local outcome, ends = struct.unpack('<BI6', terms)
  local plan = rare.settle(KEYS[i], state, terms:sub(8), ARGV[2 * i + 1], ends, outcome)
  if plan.err then return plan end
  if plan.begun then reply[3] = reply[3] + 1 end
  reply[3 + i] = plan.state or state
end
return reply
