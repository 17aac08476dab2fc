-- Charges every key, or none: if one whose limit is enforced refuses, nothing is charged anywhere.
--
-- KEYS[i]      the counter of the i-th charge
-- ARGV[1]      the time in microseconds since the epoch, or empty for the server's own
-- ARGV[2i]     the limit of the i-th charge, packed
-- ARGV[2i+1]   how long its counter matters, milliseconds
-- returns      {seconds, microseconds, 1 if charged or 0, the state of each key as it was judged}
--
-- How limits and states are packed, and why, is told where they are packed and unpacked.
local call, unpack, pack = redis.call, struct.unpack, struct.pack

local sec, usec
if ARGV[1] == '' then
  local time = call('TIME')
  sec, usec = time[1] + 0, time[2] + 0
else
  usec = ARGV[1] % 1000000
  sec = (ARGV[1] - usec) / 1000000
end
local now_us = sec * 1000000 + usec
-- Stored times are rounded up and compared with the rounded down now: never a window too short.
local now_ms = (now_us - now_us % 1000) / 1000
local at_ms = now_us % 1000 == 0 and now_ms or now_ms + 1

-- How many exact times a counter with sub-buckets holds before it grows them.
local FEW = 10
-- Where the windows of a packed limit begin, and how long each is.
local WINDOWS, WINDOW = 16, 10
local RING = 114 -- r

-- The plan of a key that is refused and stays as it is.
local REFUSED = {}

-- First every key is asked, then every key is charged. A plan is made for what is rare alone.
local reply, plans, rare = { sec, usec, 1, false }, nil, nil
for i = 1, #KEYS do
  local limit, state = ARGV[2 * i], call('GET', KEYS[i])
  local kind, enforced, cost, _, has_block, count = unpack('<BBI4I6BBB', limit)
  local is_plain = kind == 0 and (not state or state:byte() == RING and #state % 6 == 1)
  local refused, plan = false, nil
  if is_plain and state then
    local n = (#state - 1) / 6
    for w = WINDOWS, WINDOWS + WINDOW * (count - 1), WINDOW do
      local most, span = unpack('<I4I6', limit, w)
      local nth = n - most - 1 + cost
      if nth >= 0 and now_ms - unpack('<I6', state, 2 + 6 * nth) < span then refused = true end
    end
  end
  if not is_plain or refused and has_block == 1 then
    rare = rare or others(sec, usec, now_us, now_ms, at_ms, has_large, others)
    plan = rare.judge(KEYS[i], state, limit)
    if plan.err then return plan end
    plans = plans or {}
    plans[i], state, refused = plan, plan.state or state, plan.blocked or plan.retry
  end
  if refused and enforced == 1 then reply[3] = 0 end
  if refused and not plan then
    plans = plans or {}
    plans[i] = REFUSED
  end
  reply[3 + i] = state
end

local admitted = reply[3] == 1
for i = 1, #KEYS do
  local plan, limit, ttl = plans and plans[i], ARGV[2 * i], ARGV[2 * i + 1]
  if plan then
    if plan.retry then
      rare.block(KEYS[i], plan, limit, ttl)
    elseif admitted and not plan.blocked and plan ~= REFUSED then
      rare.charge(KEYS[i], plan, limit, ttl)
    end
  elseif admitted then
    local state, _, _, cost, longest, _, count = reply[3 + i] or 'r', unpack('<BBI4I6BBB', limit)
    local from, last, time = 2, #state, at_ms
    while from < last and now_ms - unpack('<I6', state, from) >= longest do from = from + 6 end
    if (last + 1 - from) / 6 + cost > FEW and has_large(limit, count) then
      rare = rare or others(sec, usec, now_us, now_ms, at_ms, has_large, others)
      rare.charge(KEYS[i], rare.judge(KEYS[i], reply[3 + i], limit), limit, ttl)
    else
      if from < last then
        local newest = unpack('<I6', state, last - 5)
        if newest > time then time = newest end
      end
      local added = pack('<I6', time)
      if cost > 1 then added = added:rep(cost) end
      if from > 2 then state = 'r' .. state:sub(from) end
      call('SET', KEYS[i], state .. added, 'PX', ttl)
    end
  end
end
return reply
