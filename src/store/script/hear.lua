-- What others have told since a place of the stream.
--
-- KEYS[1]   what is in force, see tell.lua
-- KEYS[2]   the stream
-- ARGV[1]   the place, the id of an entry; empty to be told the newest alone
-- ARGV[2]   who asks, and is not told what it told itself
-- ARGV[3]   how many entries at most
-- ARGV[4]   how many bytes an entry has at most
-- returns   {seconds, microseconds, the epoch or nothing, the id of the newest entry, the id of the last one looked at,
--            1 if entries are lost that came after the place, and for each entry: its id, b, l or e, its key, its end,
--            the id of the block, what is sealed}
local call = redis.call

local time = call('TIME')
local newest = call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
local last = newest[1] and newest[1][1] or '0-0'
local place = ARGV[1] == '' and last or ARGV[1]
local answer = { time[1] + 0, time[2] + 0, call('HGET', KEYS[1], 'epoch'), last, place, 0 }
if place == last then return answer end

local entries = call('XRANGE', KEYS[2], place, '+', 'COUNT', ARGV[3] + 1)
local first = 1
if entries[1] and entries[1][1] == place then
  first = 2
elseif place ~= '0-0' then
  answer[6] = 1
end
for i = first, #entries do
  local id, told = entries[i][1], entries[i][2]
  answer[5] = id
  if told[2] ~= ARGV[2] then
    answer[#answer + 1] = id
    answer[#answer + 1] = told[4] or ''
    answer[#answer + 1] = told[6] or ''
    answer[#answer + 1] = told[8] or ''
    answer[#answer + 1] = told[10] or ''
    answer[#answer + 1] = told[12] and #told[12] <= ARGV[4] + 0 and told[12] or ''
  end
end
return answer
