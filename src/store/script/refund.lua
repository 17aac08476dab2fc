-- Takes back charges that were made for requests which another part of the cluster refused.
--
-- KEYS         the counters, as many of the first request as it has charges, then those of the next
-- ARGV[1]      for each request a byte, how many charges it has, and a byte for each of them, the number of its limit
-- ARGV[2]      when the charges were made, milliseconds since the epoch, as they were stored
-- ARGV[2n+1]   the n-th limit, packed
-- returns      {0, 0, and for each request: how many keys were given something back; then false for each key}
local call, unpack, pack = redis.call, struct.unpack, struct.pack
local floor, ceil, max = math.floor, math.ceil, math.max
local at_ms = tonumber(ARGV[2])
local WINDOWS = 16

-- Without `cost` events of that time, or of the first after it: a clock that ran backwards made them later.
local function ring_without(state, first, n, cost)
  for i = 0, n - 1 do
    if unpack('<I6', state, first + 6 * i) >= at_ms then
      local gone = math.min(cost, n - i)
      return state:sub(first, first + 6 * i - 1) .. state:sub(first + 6 * (i + gone), first + 6 * n - 1), n - gone
    end
  end
  return state:sub(first, first + 6 * n - 1), n
end

local function section_without(state, at, span, k, base, cost)
  local width, before, given, entries = ceil(span / 64), base, 0, {}
  for i = 0, k - 1 do
    local bucket, upto = unpack('<I6I6', state, at + 12 * i)
    if given == 0 and bucket >= floor(at_ms / width) then given = math.min(cost, upto - before) end
    before = upto
    entries[i + 1] = pack('<I6I6', bucket, upto - given)
  end
  return table.concat(entries)
end

-- Without the attempt that was reserved then; nothing if it is not there.
local function attempts_without(state, first)
  local n, at, ends = unpack('<I2', state, first), first + 2, at_ms + 120000
  for i = 0, n - 1 do
    if unpack('<I6', state, at + 6 * i) == ends then
      return pack('<I2', n - 1) .. state:sub(at, at + 6 * i - 1) .. state:sub(at + 6 * (i + 1))
    end
  end
end

-- Whether the key had anything to give back.
local function refund(key, limit)
  local state = call('GET', key)
  local kind, _, cost = unpack('<BBI4', limit)
  local tag = state and state:byte() or 0
  local first = tag < 97 and 18 or 2
  local small = tag < 97 and tag + 32 or tag
  local body
  if small == 114 then
    body = ring_without(state, first, (#state - first + 1) / 6, cost)
  elseif small == 115 and kind == 1 then
    local _, period = unpack('<I4I8', limit, WINDOWS)
    local arrival_s, arrival_ns = unpack('<I6I4', state, first)
    local ns = arrival_ns - period * cost
    body = pack('<I6I4', max(0, arrival_s + floor(ns / 1000000000)), ns % 1000000000)
  elseif small == 102 or small == 98 then
    body = attempts_without(state, first)
  elseif small == 109 then
    local cap, n, sections = unpack('<BBB', state, first)
    local ring, left = ring_without(state, first + 3, n, cost)
    local at, parts = first + 3 + 6 * n, { pack('<BBB', cap, left, sections), ring }
    for _ = 1, sections do
      local span, base, k = unpack('<I6I6B', state, at)
      parts[#parts + 1] = state:sub(at, at + 12)
      parts[#parts + 1] = section_without(state, at + 13, span, k, base, cost)
      at = at + 13 + 12 * k
    end
    body = table.concat(parts)
  end
  if body then call('SET', key, state:sub(1, first - 1) .. body, 'KEEPTTL') end
  return body ~= nil
end

local layout, reply, at, before = { ARGV[1]:byte(1, -1) }, { 0, 0 }, 1, 0
while layout[at] do
  local charges, refunded = layout[at], 0
  reply[#reply + 1] = 0
  local place = #reply
  for i = 1, charges do
    if refund(KEYS[before + i], ARGV[2 * layout[at + i] + 1]) then refunded = refunded + 1 end
    reply[place + i] = false
  end
  reply[place] = refunded
  at, before = at + 1 + charges, before + charges
end
return reply
