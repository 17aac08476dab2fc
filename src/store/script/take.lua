-- Decides several requests, one after the other: each charges all of its keys, or none if one whose limit is
-- enforced refuses. Those that come later meet what those before them charged.
--
-- KEYS         the counters, as many of the first request as it has charges, then those of the next
-- ARGV[1]      for each request a byte, how many charges it has, and a byte for each of them, the number of its limit
-- ARGV[2]      the time in microseconds since the epoch, or empty for the server's own
-- ARGV[2n+1]   the n-th limit, packed
-- ARGV[2n+2]   how long its counters matter, milliseconds
-- returns      {seconds, microseconds, and for each request: 1 if charged or 0, or the text of an error; then the
--              state of each key as it was judged}
--
-- How limits and states are packed, and why, is told where they are packed and unpacked.
local call, try, unpack, pack, byte = redis.call, redis.pcall, struct.unpack, struct.pack, string.byte

local sec, usec
if ARGV[2] == '' then
  local time = call('TIME')
  sec, usec = time[1] + 0, time[2] + 0
else
  usec = ARGV[2] % 1000000
  sec = (ARGV[2] - usec) / 1000000
end
local now_us = sec * 1000000 + usec
-- Stored times are rounded up and compared with the rounded down now: never a window too short.
local now_ms = (now_us - now_us % 1000) / 1000
local at_ms = now_us % 1000 == 0 and now_ms or now_ms + 1

-- How many exact times a counter with sub-buckets holds before it grows them.
local FEW = 10
local RING = 114 -- r

-- The plan of a key that is refused and stays as it is.
local REFUSED = {}

-- A limit and what stands in it. Windows are {most, span, most, span, ...}; there are none in other kinds.
local function read(number)
  local unpack, limit = struct.unpack, ARGV[2 * number + 1]
  local kind, enforced, cost, longest, has_block, count = unpack('<BBI4I6BBB', limit)
  local windows = kind == 0 and { unpack(('<I4I6I4I6I4I6I4I6I4I6I4I6I4I6I4I6'):sub(1, 1 + 4 * count), limit, 16) }
  return limit, ARGV[2 * number + 2], windows, enforced == 1, cost, longest, has_block == 1, count
end

local stamp, layout = pack('<I6', at_ms), { byte(ARGV[1], 1, -1) }
local reply, filled, at, before, rare = { sec, usec }, 2, 1, 0, nil
local number, limit, ttl, windows, enforced, cost, longest, has_block, count
while layout[at] do
  local charges, verdict, plans = layout[at], 1, nil
  -- First every key is asked, then every key is charged. A plan is made for what is rare alone.
  for i = 1, charges do
    if layout[at + i] ~= number then
      number = layout[at + i]
      limit, ttl, windows, enforced, cost, longest, has_block, count = read(number)
    end
    local name = KEYS[before + i]
    local state, refused, plan = try('GET', name), false, nil
    local is_plain = windows and (not state or #state % 6 == 1 and byte(state) == RING)
    if is_plain and state then
      local n = (#state - 7) / 6 + cost
      for w = 1, 2 * count, 2 do
        local nth = n - windows[w]
        if nth >= 0 and now_ms - unpack('<I6', state, 2 + 6 * nth) < windows[w + 1] then refused = true end
      end
    end
    if not is_plain or refused and has_block then
      -- A key of another type is the trouble of its request alone; whatever else a server says is everybody's.
      if state and state.err and not state.err:find('WRONGTYPE', 1, true) then return state end
      rare = rare or others(sec, usec, now_us, now_ms, at_ms, has_large, others)
      local is_sound
      is_sound, plan = pcall(rare.judge, name, state, limit)
      if not is_sound or plan.err then
        verdict = 'GARBAGE the state of ' .. name .. ' is not one of ours'
        break
      end
      plans = plans or {}
      plans[i], state, refused = plan, plan.state or state, plan.blocked or plan.retry
    end
    if refused and enforced then verdict = 0 end
    if refused and not plan then
      plans = plans or {}
      plans[i] = REFUSED
    end
    reply[filled + 1 + i] = state
  end
  reply[filled + 1] = verdict

  for i = 1, charges do
    local plan, state = plans and plans[i], reply[filled + 1 + i]
    if layout[at + i] ~= number then
      number = layout[at + i]
      limit, ttl, windows, enforced, cost, longest, has_block, count = read(number)
    end
    local name = KEYS[before + i]
    if verdict ~= 0 and verdict ~= 1 then
      reply[filled + 1 + i] = false -- Nothing is written for a request that failed.
    elseif plan then
      if plan.retry then
        rare.block(name, plan, limit, ttl)
      elseif verdict == 1 and not plan.blocked and plan ~= REFUSED then
        rare.charge(name, plan, limit, ttl)
      end
    elseif verdict == 1 then
      local from, last, added = 2, state and #state or 1, stamp
      while from < last and now_ms - unpack('<I6', state, from) >= longest do from = from + 6 end
      if (last + 1 - from) / 6 + cost > FEW and has_large(limit, count) then
        rare = rare or others(sec, usec, now_us, now_ms, at_ms, has_large, others)
        rare.charge(name, rare.judge(name, state, limit), limit, ttl)
      else
        if from < last then
          local newest = unpack('<I6', state, last - 5)
          if newest > at_ms then added = pack('<I6', newest) end
        end
        if cost > 1 then added = added:rep(cost) end
        if not state then state = 'r' elseif from > 2 then state = 'r' .. state:sub(from) end
        call('SET', name, state .. added, 'PX', ttl)
      end
    end
  end
  filled, at, before = filled + 1 + charges, at + 1 + charges, before + charges
end
return reply
