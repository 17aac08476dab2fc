-- What states say, and how they go on. Stands before the scripts that charge and that settle.
--
-- How limits and states are packed, and why, is told where they are packed and unpacked.

-- Each local that a function shares with what is around it costs every call, so these share next to none.

-- Whether a limit has a window too large for exact times.
local function has_large(limit, count)
  for w = 16, 16 + 10 * (count - 1), 10 do
    if struct.unpack('<I4', limit, w) > 64 then return true end
  end
  return false
end

-- All that exact times do not need, at a point in time. Most calls do not come here, and a function costs when it is
-- defined. `others` is this function.
local function others(sec, usec, now_us, now_ms, at_ms, has_large, others)
  local call, unpack, pack = redis.call, struct.unpack, struct.pack
  local byte, char, floor, ceil, max, min = string.byte, string.char, math.floor, math.ceil, math.max, math.min
  -- How many exact times a counter holds before it grows; where the windows of a packed limit begin, and how long
  -- each is.
  local FEW, WINDOWS, WINDOW = 10, 16, 10
  local RING, MANY, SMOOTH, FAILURES, BACKOFF = 114, 109, 115, 102, 98 -- r, m, s, f, b; in upper case with a block
  -- How long an attempt may be under way, milliseconds, and how many of one key may be.
  local LEASE, UNDER_WAY_MAX = 120000, 1024

  -- The widest sub-bucket that gives 64 of them in a window.
  local function width_of(span) return ceil(span / 64) end

  -- When the (most + 1 - cost)-th newest of n events lets the next one in; zero if it does already.
  local function ring_retry(state, first, n, most, span, cost)
    local nth = n - most - 1 + cost
    if nth < 0 then return 0 end
    local time = unpack('<I6', state, first + 6 * nth)
    return now_ms - time < span and (time + span) * 1000 or 0
  end

  local function ring_used(state, first, n, span)
    local used = 0
    while used < n and now_ms - unpack('<I6', state, first + 6 * (n - 1 - used)) < span do used = used + 1 end
    return used
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

  local function bucket_used(state, section)
    local first, base = first_live(state, section)
    if first == section.k then return 0 end
    local _, total = unpack('<I6I6', state, section.at + 12 * (section.k - 1))
    return total - base
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

  -- What exact times or sub-buckets say to one more charge: when it may come again, microseconds, zero if now; the
  -- state, made anew if it was for other windows; how many exact times there are, or the sub-buckets. Nothing if it
  -- is neither.
  local function judge_windows(state, first, tag, plan, cost)
    local limit, count, retry = plan.limit, plan.count, 0
    if tag == RING and (#state - first + 1) % 6 == 0 then
      local n = (#state - first + 1) / 6
      for w = WINDOWS, WINDOWS + WINDOW * (count - 1), WINDOW do
        local most, span = unpack('<I4I6', limit, w)
        retry = max(retry, ring_retry(state, first, n, most, span, cost))
      end
      return retry, state, n
    elseif tag == MANY then
      local many = open_many(state, first)
      if not fits(many, limit, count, plan.cap) then
        state = state:sub(1, first - 1) .. many_of(many_events(state, many), limit, count, plan.cap)
        many = open_many(state, first)
      end
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
      return retry, state, 0, many
    end
  end

  -- Tag and body of exact times or sub-buckets after one more charge. More than a few times stay what they are
  -- unless it `grows`.
  local function charge_windows(state, first, n, many, plan, cost, grows)
    if many and is_spent(state, many, plan.longest) then many, n = nil, 0 end
    if many then return MANY, many_charged(state, many, cost) end
    local time = at_ms
    if n > 0 then time = max(time, (unpack('<I6', state, first + 6 * (n - 1)))) end
    local kept, from = n, first
    while kept > 0 and now_ms - unpack('<I6', state, from) >= plan.longest do from, kept = from + 6, kept - 1 end
    if kept + cost > FEW and grows then
      -- The times before this charge go to the buckets as they are; the charge follows.
      local grown = many_of(n > 0 and ring_events(state, first, n) or {}, plan.limit, plan.count, plan.cap)
      return MANY, many_charged(grown, open_many(grown, 1), cost)
    end
    return RING, (kept > 0 and state:sub(from) or '') .. pack('<I6', time):rep(cost)
  end

  -- `span`, so many times grown by a factor in hundredths, and never above `longest`.
  local function grown(span, percent, longest, times)
    for _ = 1, times do
      local longer = floor(span * percent / 100)
      if span >= longest or longer == span then break end
      span = longer
    end
    return min(span, longest)
  end

  -- The attempts of a key: {the end of a lease, ..., failed, row, last}. Leases are in order, milliseconds. `failed`
  -- is a state of its own, of what failed in windows, or empty; `row` how many failed in a row, `last` when the last
  -- did. Nothing if the state is another.
  local function open_attempts(plan)
    local attempts, state, at = { failed = '', row = 0, last = 0 }, plan.state, plan.first + 2
    if not state then return attempts end
    if plan.tag ~= (plan.kind == 2 and FAILURES or BACKOFF) then return end
    for i = 1, unpack('<I2', state, plan.first), 1 do
      attempts[i] = unpack('<I6', state, at)
      at = at + 6
    end
    if plan.kind == 3 then
      attempts.row, attempts.last, at = unpack('<I4I6', state, at)
      return at == #state + 1 and attempts or nil
    end
    if at > #state then return attempts end
    local retry, failed = judge_windows(state:sub(at), 2, byte(state, at), plan, 1)
    -- Made for other windows, it is answered with as it is now.
    if retry then plan.state, attempts.failed = state:sub(1, at - 1) .. failed, failed end
    return retry and attempts
  end

  -- When the wait after failures in a row is over, microseconds.
  local function waits_until(attempts, limit)
    if attempts.row == 0 then return 0 end
    local base, percent, longest = unpack('<I6I4I6', limit, WINDOWS)
    return (attempts.last + grown(base, percent, longest, attempts.row - 1)) * 1000
  end

  -- What failed, after one more failure now.
  local function fail(plan, attempts)
    if plan.kind == 2 then
      local state, n, many, _ = attempts.failed, 0, nil, nil
      if state ~= '' then
        _, state, n, many = judge_windows(state, 2, byte(state), plan, 1)
      end
      local tag, body = charge_windows(state, 2, n, many, plan, 1, true)
      attempts.failed = char(tag) .. body
    else
      local forget = unpack('<I6', plan.limit, WINDOWS + 16)
      if now_us >= waits_until(attempts, plan.limit) + forget * 1000 then attempts.row = 0 end
      attempts.row, attempts.last = min(attempts.row + 1, 4294967295), max(attempts.last, at_ms)
    end
  end

  -- Counts those as failed whose lease has ended, each at its end.
  local function lapse(plan, attempts)
    local ended, under_way = 0, #attempts
    while ended < under_way and attempts[ended + 1] <= now_ms do
      ended = ended + 1
      local ms = attempts[ended]
      others(floor(ms / 1000), ms % 1000 * 1000, ms * 1000, ms, ms, has_large, others).fail(plan, attempts)
    end
    if ended == 0 then return end
    for i = 1, under_way do attempts[i] = attempts[i + ended] end
  end

  -- When what failed lets the next attempt in, microseconds, zero if it does already; and whether those under way
  -- could use up what is left.
  local function judge_attempts(plan, attempts)
    local under_way = #attempts
    if plan.kind == 3 then
      local over = waits_until(attempts, plan.limit)
      return now_us < over and over or 0, under_way > 0
    end
    local state, retry, n, many = attempts.failed, 0, 0, nil
    if state ~= '' then
      retry, state, n, many = judge_windows(state, 2, byte(state), plan, 1)
    end
    local could_fill, section = under_way >= UNDER_WAY_MAX, 0
    for w = WINDOWS, WINDOWS + WINDOW * (plan.count - 1), WINDOW do
      local most, span = unpack('<I4I6', plan.limit, w)
      local used
      if many and most > 64 then
        section = section + 1
        used = bucket_used(state, many[section])
      else
        used = ring_used(state, many and many.ring or 2, many and many.n or n, span)
      end
      could_fill = could_fill or used + under_way >= most
    end
    return retry, could_fill
  end

  local function close_attempts(plan, attempts)
    local parts = { pack('<I2', #attempts) }
    for i, ends in ipairs(attempts) do parts[i + 1] = pack('<I6', ends) end
    parts[#parts + 1] = plan.kind == 2 and attempts.failed or pack('<I4I6', attempts.row, attempts.last)
    return plan.kind == 2 and FAILURES or BACKOFF, table.concat(parts)
  end

  local function garbage(key) return redis.error_reply('GARBAGE the state of ' .. key .. ' is not one of ours') end

  -- A block that is remembered stands before the body, and keeps the key alive until it is forgotten.
  local function set(key, plan, tag, body, ttl)
    -- Attempts under way matter until their leases end, and then as failures.
    if plan.kind >= 2 then ttl = ttl + LEASE end
    if plan.forget_us and plan.forget_us > now_us then
      tag = tag - 32
      body = pack('<I7I2I7', plan.until_us, plan.level, plan.forget_us) .. body
      ttl = max(tonumber(ttl), ceil((plan.forget_us - now_us) / 1000))
    end
    call('SET', key, char(tag) .. body, 'PX', ttl)
  end

  -- The block that follows on the one before, and ends no earlier than the key is admitted again.
  local function begin_block(plan)
    local span, percent, longest, forget = unpack('<I6I4I6I6', plan.limit, #plan.limit - 22)
    local level = 0
    if plan.forget_us and plan.forget_us > now_us then level = min(plan.level + 1, 65535) end
    plan.until_us = max(now_us + grown(span, percent, longest, level) * 1000, plan.retry)
    plan.level, plan.forget_us = level, plan.until_us + forget * 1000
  end

  -- The block as it is after one more request of its key, if that prolongs it.
  local function prolong(plan)
    if byte(plan.limit, #plan.limit) % 2 == 0 then return end
    local span, percent, longest, forget = unpack('<I6I4I6I6', plan.limit, #plan.limit - 22)
    local until_us = now_us + grown(span, percent, longest, plan.level) * 1000
    if until_us <= plan.until_us then return end
    plan.until_us, plan.forget_us, plan.longer = until_us, until_us + forget * 1000, true
    plan.retry = until_us
  end

  -- What a limit says, what its state begins with, and whether a block stands; an error if that is not one of ours.
  local function open(key, state, limit)
    local kind, _, cost, longest, has_block, count, cap = unpack('<BBI4I6BBB', limit)
    local plan = { limit = limit, kind = kind, cost = cost, longest = longest, count = count, cap = cap, first = 2 }
    plan.has_block = has_block == 1
    if not state then return plan end
    plan.state, plan.tag = state, byte(state) or 0
    if plan.tag < 97 then
      if #state < 17 then return garbage(key) end
      plan.tag, plan.first = plan.tag + 32, 18
      plan.until_us, plan.level, plan.forget_us = unpack('<I7I2I7', state, 2)
      plan.blocked = plan.until_us > now_us
    end
    return plan
  end

  -- What a state says to one more charge; an error if it is not one of ours. `retry` is of a key that is to be blocked
  -- if its limit says so, `blocked` of one that is refused and stays as it is.
  local function judge(key, state, limit)
    local plan = open(key, state, limit)
    if not state or plan.err then return plan end
    local kind, cost, first, tag, retry = plan.kind, plan.cost, plan.first, plan.tag, nil
    local is_blocked, attempts = plan.blocked, nil
    if kind == 0 then
      retry, plan.state, plan.n, plan.many = judge_windows(state, first, tag, plan, cost)
    elseif kind == 1 and tag == SMOOTH and #state == first + 9 then
      local burst, period = unpack('<I4I8', limit, WINDOWS)
      local arrival_s, arrival_ns = unpack('<I6I4', state, first)
      plan.ahead = max(0, (arrival_s - sec) * 1000000000 + arrival_ns - usec * 1000)
      local over = plan.ahead + period * (cost - burst)
      retry = over > 0 and now_us + ceil(over / 1000) or 0
    elseif kind >= 2 then
      attempts = open_attempts(plan)
      if attempts then
        lapse(plan, attempts)
        plan.attempts = attempts
        retry, plan.blocked = judge_attempts(plan, attempts)
        -- Who waits after failures in a row is not blocked for it.
        if kind == 3 and retry > 0 then retry, plan.blocked = 0, true end
      end
    end
    if not retry then return garbage(key) end
    if is_blocked then
      plan.blocked = true
      prolong(plan)
      return plan
    end
    if not retry then return garbage(key) end
    if retry > 0 then plan.retry = retry end
    return plan
  end

  local function charge(key, plan, limit, ttl)
    if plan.kind == 1 then
      local _, period = unpack('<I4I8', limit, WINDOWS)
      local ns = usec * 1000 + (plan.ahead or 0) + period * plan.cost
      return set(key, plan, SMOOTH, pack('<I6I4', sec + floor(ns / 1000000000), ns % 1000000000), ttl)
    elseif plan.kind >= 2 then
      local attempts, ends = plan.attempts or open_attempts(plan), at_ms + LEASE
      local after = #attempts
      while after > 0 and attempts[after] > ends do after = after - 1 end
      table.insert(attempts, after + 1, ends)
      local tag, body = close_attempts(plan, attempts)
      return set(key, plan, tag, body, ttl)
    end
    local grows = has_large(limit, plan.count)
    local tag, body = charge_windows(plan.state, plan.first, plan.n or 0, plan.many, plan, plan.cost, grows)
    set(key, plan, tag, body, ttl)
  end

  local function block(key, plan, _, ttl)
    if not plan.longer then
      if not plan.has_block then return end
      begin_block(plan)
    end
    set(key, plan, plan.tag, plan.state:sub(plan.first), ttl)
  end

  -- Settles the attempt whose lease is until `ends`; an error if the state is not one of ours. `tag` and `body` are to
  -- be set, no body if nothing is left; `begun` if it begins a block. Outcomes are 0 neither, 1 a failure, 2 a success.
  local function settle(key, state, limit, ends, outcome)
    local plan = open(key, state, limit)
    if plan.err then return plan end
    local attempts, held = open_attempts(plan), false
    if not attempts then return garbage(key) end
    lapse(plan, attempts)
    for i = 1, #attempts do
      if attempts[i] == ends then
        held = table.remove(attempts, i)
        break
      end
    end
    if outcome == 1 and (held or now_ms < ends) then fail(plan, attempts) end
    if outcome == 2 and byte(limit, #limit) >= 2 then attempts.row = 0 end
    local retry = judge_attempts(plan, attempts)
    if outcome == 1 and retry > 0 and plan.has_block and not plan.blocked then
      plan.retry, plan.begun = retry, true
      begin_block(plan)
    end
    local is_remembered = plan.forget_us and plan.forget_us > now_us
    if #attempts > 0 or attempts.failed ~= '' or attempts.row > 0 or is_remembered then
      plan.tag, plan.body = close_attempts(plan, attempts)
    end
    return plan
  end

  return { judge = judge, charge = charge, block = block, fail = fail, settle = settle, set = set }
end

