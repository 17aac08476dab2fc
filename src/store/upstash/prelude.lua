#!lua flags=allow-key-locking
-- Stands before every script that goes over HTTP. JSON cannot carry the packed arguments, so they come in
-- hexadecimal; and the library `struct` may be absent, so here is what the scripts use of it: little-endian
-- unsigned integers, `<`, `I1` to `I8`, `B`. Exact below 2^53, like every number in Lua.
local ARGV = (function(encoded)
  local decoded = {}
  local char, tonumber = string.char, tonumber
  for i = 1, #encoded do
    decoded[i] = encoded[i]:gsub('%x%x', function(digits) return char(tonumber(digits, 16)) end)
  end
  return decoded
end)(ARGV)

local struct = (function()
  local byte, char, floor, concat = string.byte, string.char, math.floor, table.concat
  local spread = unpack or table.unpack
  local known = {}

  -- The widths, in bytes, that a format names.
  local function widths(format)
    if known[format] then return known[format] end
    local list, at = {}, 1
    while at <= #format do
      local option, digits = format:match('^([<BI])(%d*)', at)
      if not option then error('invalid format: ' .. format) end
      if option == 'I' then list[#list + 1] = tonumber(digits) or 4 end
      if option == 'B' then list[#list + 1] = 1 end
      at = at + 1 + #digits
    end
    known[format] = list
    return list
  end

  local function pack(format, ...)
    local bytes, numbers = {}, { ... }
    for i, width in ipairs(widths(format)) do
      local rest = floor(numbers[i])
      for _ = 1, width do
        bytes[#bytes + 1] = char(rest % 256)
        rest = floor(rest / 256)
      end
    end
    return concat(bytes)
  end

  local function unpack(format, data, from)
    local values, at = {}, from or 1
    for _, width in ipairs(widths(format)) do
      if at + width - 1 > #data then error('data string too short') end
      local value = 0
      for place = at + width - 1, at, -1 do value = value * 256 + byte(data, place) end
      values[#values + 1] = value
      at = at + width
    end
    values[#values + 1] = at
    return spread(values)
  end

  return { pack = pack, unpack = unpack }
end)()

