-- Tells other gateways of blocks, of lifts and of events.
--
-- KEYS[1]      what is in force: a hash of marks by key, and `epoch`
-- KEYS[2]      a stream of all that was told of late
-- ARGV[1]      the epoch to be, if there is none: the hash is new
-- ARGV[2]      who tells
-- ARGV[3]      how many marks the hash holds at most
-- ARGV[4]      how many entries the stream holds, about
-- ARGV[5]      how long both are kept, milliseconds
-- ARGV[5n+1]   of the n-th notice: b a block, o a block whose end an operator sets, l a lift, e an event
-- ARGV[5n+2]   its key, field of the hash; empty for an event
-- ARGV[5n+3]   when the mark is over, milliseconds since the epoch
-- ARGV[5n+4]   the id of the block, 32 hexadecimal digits
-- ARGV[5n+5]   what is sealed
-- returns      {the epoch, how many marks found no room}
--
-- A mark is `b` or `l`, its end, its id and what is sealed, with spaces between. What does not change the marks is not
-- told on: so any gateway may tell again what it holds, and none brings back what was lifted.
local call = redis.call

local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local epoch = call('HGET', KEYS[1], 'epoch')
if not epoch then
  epoch = ARGV[1]
  call('HSET', KEYS[1], 'epoch', epoch)
end
local room = ARGV[3] - call('HLEN', KEYS[1])
local crowded = 0

-- Whether a mark takes the place of what stands there.
local function stands(op, held, ends, id)
  local kind, held_ends, held_id = string.match(held or '', '^(%a) (%d+) (%x+) ')
  if not kind or held_ends + 0 <= now_ms then return true end
  if op == 'l' then return held_id < id or held_id == id and kind == 'b' end
  if kind == 'l' then return held_id < id end
  -- Ends that come from two clocks differ a little.
  if held_id == id then return op == 'o' or ends + 0 > held_ends + 1000 end
  return ends + 0 > held_ends + 0 or ends + 0 == held_ends + 0 and id > held_id
end

for i = 6, #ARGV, 5 do
  local op, field, ends, id, sealed = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local kind = op == 'o' and 'b' or op
  local is_news = true
  if op ~= 'e' then
    local held = call('HGET', KEYS[1], field)
    is_news = stands(op, held, ends, id)
    if is_news and not held and room <= 0 then
      is_news = false
      crowded = crowded + 1
    end
    if is_news then
      if not held then room = room - 1 end
      call('HSET', KEYS[1], field, table.concat({ kind, ends, id, sealed }, ' '))
    end
  end
  if is_news then
    call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'n', ARGV[2], 'o', kind, 'k', field, 'e', ends, 'i', id, 's', sealed)
  end
end
call('PEXPIRE', KEYS[1], ARGV[5])
call('PEXPIRE', KEYS[2], ARGV[5])
return { epoch, crowded }
