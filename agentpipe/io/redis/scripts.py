"""What is done inside Redis, in Lua: each of these is one atomic step.

The rule this module keeps: **a script looks first and writes then**, and its first write is the one that Redis may
refuse (memory, wrong place), so that it changes everything or nothing. Arguments are flat, because decoding JSON inside
Redis costs more than all the rest; numbers are written with ``%.0f``, because Lua writes large ones as 1e+15.

Keys, all with the same hash tag ``{prefix}``, so that a cluster holds them in one slot:

``{p}:meta``       hash: ``epoch``, ``server`` (the Redis that it was last seen on), ``oldest``, ``head``, ``stamp`` of
                   the newest block and when it was stored (``at``), ``size`` and ``count`` of what is kept, ``state``,
                   ``state_offset``
``{p}:log``        stream: one entry a block, id ``<offset of its first event>-0``, fields ``count``, ``lines``, ``at``,
                   ``stamp``
``{p}:runs``       hash: run → ``<last number> <rest of its standing>``; that of none is ``0 ``
``{p}:ids``        sorted set: ids that do not say where their event is, by the offset of their block
``{p}:run:<run>``  sorted set: the blocks that hold a run, by offset; ``<offset>:<lowest number>``
``{p}:remains``    hash: run → ``<offset> <line>`` of what is kept of it when its blocks leave, one a line
``{p}:node:<id>``  the last commit of a hub: ``<stamp> <offset>``; expires
``{p}:retaining``  the hub that drops what is over the limits; expires
"""

__all__ = ["APPEND", "FOUND", "PAGE", "PLACE", "PROVE", "RENEW", "SAVE_STATE", "TRIM"]

#: A log that is not there yet begins with an epoch. KEYS meta; ARGV epoch. Answers the epoch that holds.
FOUND = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch then return epoch end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
return ARGV[1]
"""

#: The epoch is replaced, unless somebody else has done so. KEYS meta; ARGV old, new. Answers the epoch that holds.
RENEW = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch ~= ARGV[1] then return epoch end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
return ARGV[2]
"""

#: What is known of the log, and the stamp of the block that ends at an offset. KEYS meta log; ARGV offset. Answers
#: epoch, oldest, head, stamp (empty: no block ends there, or it has left), server.
PROVE = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'oldest', 'head', 'stamp', 'server')
local offset, head, stamp = tonumber(ARGV[1]), tonumber(meta[3] or 0), ''
if offset == head then
  stamp = meta[4] or ''
elseif offset < head then
  local block = redis.call('XREVRANGE', KEYS[2], ARGV[1] .. '-0', '-', 'COUNT', 1)[1]
  if block then
    local first = tonumber(string.match(block[1], '^%d+'))
    if first + tonumber(block[2][2]) - 1 == offset then stamp = block[2][8] end
  end
end
return {meta[1] or '', meta[2] or '0', meta[3] or '0', stamp, meta[5] or ''}
"""

#: Store a commit. Of its time the clock of Redis is the judge, as far as it may be asked: nothing is of later than now,
#: or of earlier than what was stored before. A hub whose clock is wrong must not make what is new leave for its age, or
#: what is old stay.
#: KEYS meta log runs ids node run…; ARGV epoch, stamp, seconds until the stamp is forgotten, at, the numbers of runs,
#: ids and blocks; for each run its id, the standing believed, the new one; the ids; for each block its count,
#: size, lines, then how many runs it holds and for each the place among the runs and the lowest number, then how many
#: ids and these. Answers {'stored', offset}, {'epoch', epoch} or {'conflict', standing…, known ids…}.
APPEND = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'head', 'at')
if meta[1] ~= ARGV[1] then return {'epoch', meta[1] or ''} end
local earlier = redis.call('GET', KEYS[5])
local stamp = ARGV[2]
if earlier and string.sub(earlier, 1, #stamp + 1) == stamp .. ' ' then
  return {'stored', string.sub(earlier, #stamp + 2)}
end
local runs, ids, blocks = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local place = 8
local wrong = false
local found = {'conflict'}
for run = 1, runs do
  local standing = redis.call('HGET', KEYS[3], ARGV[place])
  found[run + 1] = standing or ''
  if (standing or '0 ') ~= ARGV[place + 1] then wrong = true end
  place = place + 3
end
for _ = 1, ids do
  if redis.call('ZSCORE', KEYS[4], ARGV[place]) then
    wrong = true
    found[#found + 1] = ARGV[place]
  end
  place = place + 1
end
if wrong then return found end
local head = tonumber(meta[2] or 0)
local size, count = 0, 0
local at, clock = ARGV[4], redis.pcall('TIME')
if not clock.err and tonumber(at) > tonumber(clock[1]) + 1 then at = clock[1] end
if meta[3] and tonumber(meta[3]) > tonumber(at) then at = meta[3] end
for _ = 1, blocks do
  local first = string.format('%.0f', head + 1)
  redis.call('XADD', KEYS[2], first .. '-0', 'count', ARGV[place], 'lines', ARGV[place + 2], 'at', at,
    'stamp', stamp)
  head = head + tonumber(ARGV[place])
  count = count + tonumber(ARGV[place])
  size = size + tonumber(ARGV[place + 1])
  local parts = tonumber(ARGV[place + 3])
  place = place + 4
  for _ = 1, parts do
    redis.call('ZADD', KEYS[5 + tonumber(ARGV[place])], first, first .. ':' .. ARGV[place + 1])
    place = place + 2
  end
  local named = tonumber(ARGV[place])
  place = place + 1
  for _ = 1, named do
    redis.call('ZADD', KEYS[4], 'NX', first, ARGV[place])
    place = place + 1
  end
end
place = 8
for _ = 1, runs do
  redis.call('HSET', KEYS[3], ARGV[place], ARGV[place + 2])
  place = place + 3
end
local last = string.format('%.0f', head)
redis.call('HSET', KEYS[1], 'head', last, 'stamp', stamp, 'at', at)
redis.call('HINCRBY', KEYS[1], 'size', string.format('%.0f', size))
redis.call('HINCRBY', KEYS[1], 'count', string.format('%.0f', count))
redis.call('SET', KEYS[5], stamp .. ' ' .. last, 'EX', ARGV[3])
return {'stored', last}
"""

#: Entries after an offset, in whole blocks; where one is larger than a block should be, one is asked for at a time, so
#: that a page of large events is not a hundred megabytes inside Redis. KEYS meta log; ARGV offset, events and bytes
#: after which to stop. Answers epoch, oldest, head, then for each block the offset of its first entry and its lines.
PAGE = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'oldest', 'head')
local answer = {meta[1] or '', meta[2] or '0', meta[3] or '0'}
local offset, events, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local next = string.format('%.0f', offset + 1)
local found = redis.call('XREVRANGE', KEYS[2], next .. '-0', '-', 'COUNT', 1)
if found[1] and tonumber(string.match(found[1][1], '^%d+')) + tonumber(found[1][2][2]) - 1 <= offset then
  found = {}
end
local place = '(' .. next .. '-0'
if not found[1] then place = next .. '-0' end
local ahead = 0.5
while true do
  ahead = math.min(2 * ahead, 8)
  for _, block in ipairs(found) do
    if #block[2][4] > 262144 then ahead = 1 end
    answer[#answer + 1] = string.match(block[1], '^%d+')
    answer[#answer + 1] = block[2][4]
    events = events - tonumber(block[2][2])
    bytes = bytes - #block[2][4]
    place = '(' .. block[1]
    if events <= 0 or bytes <= 0 then return answer end
  end
  found = redis.call('XRANGE', KEYS[2], place, '+', 'COUNT', ahead)
  if not found[1] then return answer end
end
"""

#: The last block of a run whose numbers begin at a number or below, or else its first: their numbers rise from block
#: to block. KEYS run; ARGV number. Answers the offset of the block's first entry, or nothing.
PLACE = """
local low, high = 0, redis.call('ZCARD', KEYS[1]) - 1
local number, found = tonumber(ARGV[1]), false
while low <= high do
  local middle = math.floor((low + high) / 2)
  local part = redis.call('ZRANGE', KEYS[1], middle, middle)[1]
  local first, least = string.match(part, '^(%d+):(%d+)$')
  if tonumber(least) <= number then
    found, low = first, middle + 1
  else
    high = middle - 1
  end
end
if found then return found end
local part = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
return part and string.match(part, '^%d+')
"""

#: Drop the oldest blocks. KEYS meta log ids remains run…; ARGV epoch, offset before the first of them, offset of the
#: last entry, its block's first entry, bytes, events, of how many runs something remains, for each its id and that.
#: Answers 1, or 0 when somebody else was first. It begins with what Redis does even when its memory is full.
TRIM = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'oldest')
if meta[1] ~= ARGV[1] or (meta[2] or '0') ~= ARGV[2] then return 0 end
redis.call('XTRIM', KEYS[2], 'MINID', '=', string.format('%.0f', tonumber(ARGV[3]) + 1) .. '-0')
for run = 1, tonumber(ARGV[7]) do
  redis.call('HSET', KEYS[4], ARGV[6 + 2 * run], ARGV[7 + 2 * run])
end
redis.call('HSET', KEYS[1], 'oldest', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'size', '-' .. ARGV[5])
redis.call('HINCRBY', KEYS[1], 'count', '-' .. ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[4])
for run = 5, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[run], '-inf', ARGV[4])
end
return 1
"""

#: Keep a state, unless a later one is kept. KEYS meta; ARGV epoch, offset, state.
SAVE_STATE = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'state_offset')
if meta[1] ~= ARGV[1] or tonumber(meta[2] or 0) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'state_offset', ARGV[2])
return 1
"""
