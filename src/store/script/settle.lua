-- Settles attempts by what became of them, each key by itself.
--
-- KEYS         the counters, as many of the first request as it has attempts, then those of the next
-- ARGV[1]      for each request a byte, how many attempts it has, and a byte for each of them, the number of its terms
-- ARGV[2]      the time in microseconds since the epoch, or empty for the server's own
-- ARGV[2n+1]   the n-th terms: what became of it (0 neither, 1 a failure, 2 a success) u8, until when it was leased
--              u48 ms, and the limit, packed
-- ARGV[2n+2]   how long its counters matter, milliseconds
-- returns      {seconds, microseconds, and for each request: how many blocks began, or the text of an error; then the
--              state of each key as it was found}
local sec, usec
if ARGV[2] == '' then
  local time = redis.call('TIME')
  sec, usec = time[1] + 0, time[2] + 0
else
  usec = ARGV[2] % 1000000
  sec = (ARGV[2] - usec) / 1000000
end
local now_us = sec * 1000000 + usec
local now_ms = (now_us - now_us % 1000) / 1000
local at_ms = now_us % 1000 == 0 and now_ms or now_ms + 1
local rare = others(sec, usec, now_us, now_ms, at_ms, has_large, others)

local layout, reply, filled, at, before = { ARGV[1]:byte(1, -1) }, { sec, usec }, 2, 1, 0
while layout[at] do
  local attempts, begun, fault = layout[at], 0, nil
  for i = 1, attempts do
    local name, terms, ttl = KEYS[before + i], ARGV[2 * layout[at + i] + 1], ARGV[2 * layout[at + i] + 2]
    local state = redis.pcall('GET', name)
    -- A key of another type is the trouble of its request alone; whatever else a server says is everybody's.
    if state and state.err and not state.err:find('WRONGTYPE', 1, true) then return state end
    local outcome, ends = struct.unpack('<BI6', terms)
    local is_sound, plan = pcall(rare.settle, name, state, terms:sub(8), ends, outcome)
    if not is_sound or plan.err then
      fault, reply[filled + 1 + i] = 'GARBAGE the state of ' .. name .. ' is not one of ours', false
    else
      if plan.body then
        rare.set(name, plan, plan.tag, plan.body, ttl)
      elseif state then
        redis.call('DEL', name)
      end
      if plan.begun then begun = begun + 1 end
      reply[filled + 1 + i] = plan.state or state
    end
  end
  reply[filled + 1] = fault or begun
  filled, at, before = filled + 1 + attempts, at + 1 + attempts, before + attempts
end
return reply
