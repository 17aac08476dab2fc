-- Forgets keys, whatever they hold.
--
-- KEYS         the counters, as many of the first request as it names, then those of the next
-- ARGV[1]      for each request a byte, how many keys it names, and a byte for each of them
-- returns      {0, 0, and for each request: how many keys there were; then false for each key}
local layout, reply, at, before = { ARGV[1]:byte(1, -1) }, { 0, 0 }, 1, 0
while layout[at] do
  local keys, forgotten = layout[at], 0
  reply[#reply + 1] = 0
  local place = #reply
  for i = 1, keys do
    forgotten = forgotten + redis.call('DEL', KEYS[before + i])
    reply[place + i] = false
  end
  reply[place] = forgotten
  at, before = at + 1 + keys, before + keys
end
return reply
