-- Forgets keys, whatever they hold.
--
-- KEYS         the counters
-- returns      {how many there were}
local forgotten = 0
for i = 1, #KEYS do forgotten = forgotten + redis.call('DEL', KEYS[i]) end
return { forgotten }
