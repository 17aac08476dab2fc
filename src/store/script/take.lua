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

-- Each local that a function shares with what is around it costs every call, so these share next to none.

-- Whether a limit has a window too large for exact times.
local function has_large(limit, count)
  for w = 16, 16 + 10 * (count - 1), 10 do
    if struct.unpack('<I4', limit, w) > 64 then return true end
  end
  return false
end

-- A limit and what stands in it. Windows are {most, span, most, span, ...}; there are none in other kinds.
local function read(number)
  local unpack, limit = struct.unpack, ARGV[2 * number + 1]
  local kind, enforced, cost, longest, has_block, count = unpack('<BBI4I6BBB', limit)
  local windows = kind == 0 and { unpack(('<I4I6I4I6I4I6I4I6I4I6I4I6I4I6I4I6'):sub(1, 1 + 4 * count), limit, 16) }
  return limit, ARGV[2 * number + 2], windows, enforced == 1, cost, longest, has_block == 1, count
end

-- All that exact times do not need. Most calls do not come here, and a function costs when it is defined.
local function others(sec, usec, now_us, now_ms, at_ms, has_large)
  local call, unpack, pack = redis.call, struct.unpack, struct.pack
  local byte, floor, ceil, max, min = string.byte, math.floor, math.ceil, math.max, math.min
  local FEW, WINDOWS, WINDOW = 10, 16, 10
  local RING, MANY, SMOOTH = 114, 109, 115 -- r, m, s; in upper case with a block before

  -- The widest sub-bucket that gives 64 of them in a window.
  local function width_of(span) return ceil(span / 64) end

  -- When the (most + 1 - cost)-th newest of n events lets the next one in; zero if it does already.
  local function ring_retry(state, first, n, most, span, cost)
    local nth = n - most - 1 + cost
    if nth < 0 then return 0 end
    local time = unpack('<I6', state, first + 6 * nth)
    return now_ms - time < span and (time + span) * 1000 or 0
  end

  -- The parts of a state with sub-buckets. A section is {span, base, k, at}: k entries from `at` on, each the
  -- number of a bucket and all events up to its end, counted from `base`.
  local function open_many(state, first)
    local cap, n, sections = unpack('<BBB', state, first)
    local many = { cap = cap, n = n, ring = first + 3 }
    local at = first + 3 + 6 * n
    for i = 1, sections do
      local span, base, k = unpack('<I6I6B', state, at)
      many[i] = { span = span, base = base, k = k, at = at + 13 }
      at = at + 13 + 12 * k
    end
    return many
  end

  -- The first entry that still counts, and all events before it; k if none does.
  local function first_live(state, section)
    local oldest = floor((now_ms - section.span) / width_of(section.span))
    local base = section.base
    for i = 0, section.k - 1 do
      local bucket, total = unpack('<I6I6', state, section.at + 12 * i)
      if bucket >= oldest then return i, base end
      base = total
    end
    return section.k, base
  end

  local function bucket_retry(state, section, most, cost)
    local first, base = first_live(state, section)
    if first == section.k then return 0 end
    local _, total = unpack('<I6I6', state, section.at + 12 * (section.k - 1))
    local to_free = total - base + cost - most
    if to_free <= 0 then return 0 end
    for i = first, section.k - 1 do
      local bucket, upto = unpack('<I6I6', state, section.at + 12 * i)
      if upto - base >= to_free then
        return ((bucket + 1) * width_of(section.span) + section.span) * 1000
      end
    end
    return 0
  end

  -- The bodies of states are built from events: {time, count} in order of time.
  local function ring_of(events, cap)
    local times = {}
    for _, event in ipairs(events) do
      for _ = 1, min(event[2], cap) do times[#times + 1] = pack('<I6', event[1]) end
    end
    return table.concat(times, '', max(1, #times - cap + 1), #times), min(#times, cap)
  end

  local function many_of(events, limit, count, cap)
    local ring, n = ring_of(events, cap)
    local parts, sections = {}, 0
    for w = WINDOWS, WINDOWS + WINDOW * (count - 1), WINDOW do
      local most, span = unpack('<I4I6', limit, w)
      if most > 64 then
        sections = sections + 1
        local width, oldest = width_of(span), floor((now_ms - span) / width_of(span))
        local entries, total, last = {}, 0, -1
        for _, event in ipairs(events) do
          local bucket = max(floor(event[1] / width), last)
          if bucket >= oldest then
            total = total + event[2]
            if bucket ~= last then entries[#entries + 1] = '' end
            entries[#entries] = pack('<I6I6', bucket, total)
            last = bucket
          end
        end
        parts[#parts + 1] = pack('<I6I6B', span, 0, #entries) .. table.concat(entries)
      end
    end
    return pack('<BBB', cap, n, sections) .. ring .. table.concat(parts)
  end

  local function ring_events(state, first, n)
    local events = {}
    for i = 0, n - 1 do events[i + 1] = { unpack('<I6', state, first + 6 * i), 1 } end
    return events
  end

  -- What a state knows, each event at its time or later: from the finest part that reaches back to it.
  local function many_events(state, many)
    local events = ring_events(state, many.ring, many.n)
    local known_from = 0
    if many.cap == 0 then
      known_from = math.huge
    elseif many.n == many.cap then
      known_from = events[1][1]
    end
    local sections = {}
    for i, section in ipairs(many) do sections[i] = section end
    table.sort(sections, function(a, b) return a.span < b.span end)
    for _, section in ipairs(sections) do
      local width = width_of(section.span)
      local first, before = first_live(state, section)
      for i = first, section.k - 1 do
        local bucket, upto = unpack('<I6I6', state, section.at + 12 * i)
        if bucket * width <= known_from then
          events[#events + 1] = { min((bucket + 1) * width - 1, at_ms), upto - before }
        end
        before = upto
      end
      known_from = min(known_from, now_ms - section.span)
    end
    table.sort(events, function(a, b) return a[1] < b[1] end)
    return events
  end

  -- Whether a state with sub-buckets was made for these windows.
  local function fits(many, limit, count, cap)
    if many.cap ~= cap then return false end
    local section = 1
    for w = WINDOWS, WINDOWS + WINDOW * (count - 1), WINDOW do
      local most, span = unpack('<I4I6', limit, w)
      if most > 64 then
        if not many[section] or many[section].span ~= span then return false end
        section = section + 1
      end
    end
    return many[section] == nil
  end

  local function is_spent(state, many, longest)
    if many.n > 0 and now_ms - unpack('<I6', state, many.ring + 6 * (many.n - 1)) < longest then return false end
    for _, section in ipairs(many) do
      if first_live(state, section) < section.k then return false end
    end
    return true
  end

  -- The body of a state with sub-buckets after one more charge.
  local function many_charged(state, many, cost)
    local added = min(cost, many.cap)
    local first, n = many.ring, many.n
    local last = n > 0 and unpack('<I6', state, first + 6 * (n - 1)) or 0
    local dropped = max(0, n + added - many.cap)
    local parts = {
      pack('<BBB', many.cap, n + added - dropped, #many),
      state:sub(first + 6 * dropped, first + 6 * n - 1),
      pack('<I6', max(at_ms, last)):rep(added),
    }
    for _, section in ipairs(many) do
      local from, base = first_live(state, section)
      local upto, total, bucket = section.at + 12 * section.k, base, -1
      if from < section.k then
        bucket, total = unpack('<I6I6', state, upto - 12)
      end
      local now_bucket = max(floor(at_ms / width_of(section.span)), bucket)
      if now_bucket == bucket then upto = upto - 12 end
      local kept = state:sub(section.at + 12 * from, upto - 1)
      parts[#parts + 1] = pack('<I6I6B', section.span, base, #kept / 12 + 1)
      parts[#parts + 1] = kept
      parts[#parts + 1] = pack('<I6I6', now_bucket, total + cost)
    end
    return table.concat(parts)
  end

  local function garbage(key) return redis.error_reply('GARBAGE the state of ' .. key .. ' is not one of ours') end

  -- A block that is remembered stands before the body, and keeps the key alive until it is forgotten.
  local function set(key, plan, tag, body, ttl)
    if plan.forget_us and plan.forget_us > now_us then
      tag = tag - 32
      body = pack('<I7I2I7', plan.until_us, plan.level, plan.forget_us) .. body
      ttl = max(tonumber(ttl), ceil((plan.forget_us - now_us) / 1000))
    end
    call('SET', key, string.char(tag) .. body, 'PX', ttl)
  end

  -- What a state says to one more charge; an error if it is not one of ours.
  local function judge(key, state, limit)
    local kind, _, cost, longest, _, count, cap = unpack('<BBI4I6BBB', limit)
    local plan = { kind = kind, cost = cost, longest = longest, count = count, cap = cap, first = 2 }
    if not state then return plan end
    local tag = byte(state) or 0
    if tag < 97 then
      if #state < 17 then return garbage(key) end
      tag, plan.first = tag + 32, 18
      plan.until_us, plan.level, plan.forget_us = unpack('<I7I2I7', state, 2)
      -- Its further requests do not prolong a block.
      plan.blocked = plan.until_us > now_us
      if plan.blocked then return plan end
    end
    local first, retry = plan.first, 0
    if kind == 1 and tag == SMOOTH and #state == first + 9 then
      local burst, period = unpack('<I4I8', limit, WINDOWS)
      local arrival_s, arrival_ns = unpack('<I6I4', state, first)
      plan.ahead = max(0, (arrival_s - sec) * 1000000000 + arrival_ns - usec * 1000)
      local over = plan.ahead + period * (cost - burst)
      if over > 0 then retry = now_us + ceil(over / 1000) end
    elseif kind == 0 and tag == RING and (#state - first + 1) % 6 == 0 then
      plan.n = (#state - first + 1) / 6
      for w = WINDOWS, WINDOWS + WINDOW * (count - 1), WINDOW do
        local most, span = unpack('<I4I6', limit, w)
        retry = max(retry, ring_retry(state, first, plan.n, most, span, cost))
      end
    elseif kind == 0 and tag == MANY then
      local many = open_many(state, first)
      if not fits(many, limit, count, cap) then
        state = state:sub(1, first - 1) .. many_of(many_events(state, many), limit, count, cap)
        many = open_many(state, first)
      end
      plan.many = many
      local section = 0
      for w = WINDOWS, WINDOWS + WINDOW * (count - 1), WINDOW do
        local most, span = unpack('<I4I6', limit, w)
        if most > 64 then
          section = section + 1
          retry = max(retry, bucket_retry(state, many[section], most, cost))
        else
          retry = max(retry, ring_retry(state, many.ring, many.n, most, span, cost))
        end
      end
    else
      return garbage(key)
    end
    plan.state, plan.tag = state, tag
    if retry > 0 then plan.retry = retry end
    return plan
  end

  local function charge(key, plan, limit, ttl)
    local state, cost, many, first, n = plan.state, plan.cost, plan.many, plan.first, plan.n or 0
    if plan.kind == 1 then
      local _, period = unpack('<I4I8', limit, WINDOWS)
      local ns = usec * 1000 + (plan.ahead or 0) + period * cost
      return set(key, plan, SMOOTH, pack('<I6I4', sec + floor(ns / 1000000000), ns % 1000000000), ttl)
    end
    if many and is_spent(state, many, plan.longest) then
      plan.state, many, n = nil, nil, 0
    end
    if many then return set(key, plan, MANY, many_charged(state, many, cost), ttl) end
    local time = at_ms
    if n > 0 then time = max(time, (unpack('<I6', state, first + 6 * (n - 1)))) end
    local kept, from = n, first
    while kept > 0 and now_ms - unpack('<I6', state, from) >= plan.longest do from, kept = from + 6, kept - 1 end
    if kept + cost > FEW and has_large(limit, plan.count) then
      -- The times before this charge go to the buckets as they are; the charge follows.
      local grown = many_of(n > 0 and ring_events(state, first, n) or {}, limit, plan.count, plan.cap)
      return set(key, plan, MANY, many_charged(grown, open_many(grown, 1), cost), ttl)
    end
    set(key, plan, RING, (kept > 0 and state:sub(from) or '') .. pack('<I6', time):rep(cost), ttl)
  end

  local function block(key, plan, limit, ttl)
    if unpack('B', limit, 13) == 0 then return end
    local span, percent, longest, forget = unpack('<I6I4I6I6', limit, #limit - 21)
    local level = 0
    if plan.forget_us and plan.forget_us > now_us then level = min(plan.level + 1, 65535) end
    for _ = 1, level do
      if span >= longest then break end
      span = floor(span * percent / 100)
    end
    plan.until_us = max(now_us + min(span, longest) * 1000, plan.retry)
    plan.level, plan.forget_us = level, plan.until_us + forget * 1000
    set(key, plan, plan.tag, plan.state:sub(plan.first), ttl)
  end

  return { judge = judge, charge = charge, block = block }
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
      rare = rare or others(sec, usec, now_us, now_ms, at_ms, has_large)
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
        rare = rare or others(sec, usec, now_us, now_ms, at_ms, has_large)
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
