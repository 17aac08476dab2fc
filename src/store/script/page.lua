-- A page of what is in force; what is over is dropped on the way.
--
-- KEYS[1]   what is in force, see tell.lua
-- KEYS[2]   the stream
-- ARGV[1]   where the page before ended, 0 for the first
-- ARGV[2]   about how many marks a page has
-- ARGV[3]   how many bytes a mark has at most
-- ARGV[4]   how long both are kept, milliseconds
-- ARGV[5]   1 to be told the marks, 0 if only the dropping matters
-- returns   {seconds, microseconds, where the page ends or 0, and for each mark: b or l, its key, its end, the id of
--            the block, what is sealed}
local call = redis.call

local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local page = call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local answer = { time[1] + 0, time[2] + 0, page[1] }
local marks = page[2]
for i = 1, #marks, 2 do
  local field, mark = marks[i], marks[i + 1]
  if field ~= 'epoch' then
    local kind, ends, id, from = string.match(mark, '^(%a) (%d+) (%x+) ()')
    if not kind or ends + 0 <= now_ms then
      call('HDEL', KEYS[1], field)
    elseif ARGV[5] == '1' then
      answer[#answer + 1] = kind
      answer[#answer + 1] = field
      answer[#answer + 1] = ends
      answer[#answer + 1] = id
      answer[#answer + 1] = #mark - from < ARGV[3] + 0 and string.sub(mark, from) or ''
    end
  end
end
call('PEXPIRE', KEYS[1], ARGV[4])
call('PEXPIRE', KEYS[2], ARGV[4])
return answer
