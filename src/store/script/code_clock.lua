-- Stands before each step with codes and claims: the time.
--
-- ARGV[1]   microseconds since the epoch, or empty for the server's own time
local call = redis.call

local sec, usec
if ARGV[1] == '' then
  local time = call('TIME')
  sec, usec = time[1] + 0, time[2] + 0
else
  usec = ARGV[1] % 1000000
  sec = (ARGV[1] - usec) / 1000000
end
local now_us = sec * 1000000 + usec

-- A whole number of any size, in digits.
local function digits(number) return string.format('%.0f', number) end

-- Has the key go away once `ends` has come.
local function expire(ends) call('PEXPIRE', KEYS[1], digits(math.ceil((ends - now_us) / 1000))) end

