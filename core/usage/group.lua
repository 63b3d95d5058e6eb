-- A gateway says what its keys have used of a month, and hears what all gateways have, and
-- how far it may go before it asks again. The hash KEYS[1] is that of the month. Each gateway
-- writes only its own fields, in absolute values: to say it twice, or to lose the answer,
-- changes nothing. What it has used only grows, so the greater of two values is the true one.
--
-- For every key with a limit: what all gateways have used, and how far those that live may
-- go, is together never more than the limit.
--
-- ARGV: 2 the name under which it counts, which outlives its process, 3 that process, 4 its
-- machine, 5 how often that name was taken, 6 the number of this call, 7 'tell' or 'bye',
-- 8 how many gateways it knows of. Then for each key: its name; the characters used, how far
-- it may go already, how far without us, how many more are needed now, how many of
-- them are of use, how many more are wanted, the limit (0: none), what it knows that the
-- others used, and how much further they may go; and of its calls in the minute past: the
-- limit, how many it may still make, how many are needed now, how many are wanted, what it
-- knows of the others' (-1: nothing), and its own as n:ms,... where ms is in how long they
-- are past.
local LEASE, LIVES, LEARNS, LACKS, KEEP, PARTS = 10000, 15000, 10000, 3000, 6048000000, 16

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local writer, self, machine = ARGV[2], ARGV[3], ARGV[4]
local taken, seq, what, known = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])

-- Who counts under our name.
local newer = false
local function who(name)
  local value = redis.call('HGET', KEYS[1], 'w ' .. name)
  if not value then return nil end
  local v, g, s, till, process, at = string.match(value, '^(%d+) (%d+) (%d+) (%d+) (%S+) (%S+)$')
  if v ~= '1' then
    newer = true
    return nil
  end
  return {g = tonumber(g), s = tonumber(s), till = tonumber(till), process = process, at = at}
end
local mine = who(writer)
if mine and mine.process == self then
  if mine.s >= seq then return {'stale'} end
elseif mine and mine.g >= taken then
  if mine.till >= now then return {'copied', mine.at} end
  taken = mine.g + 1
end

local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '')
local last = tonumber(redis.call('HGET', KEYS[1], 'last') or '')
if not epoch or not last or now > last + LEASE then
  -- We were gone, or what we held: leases have ended that may have been spent.
  epoch = now
  redis.call('HSET', KEYS[1], 'epoch', string.format('%d', now))
end
redis.call('HSET', KEYS[1], 'last', string.format('%d', now))
local learning = now < epoch + LEARNS

local all, members, others = redis.call('HGET', KEYS[1], 'writers') or '', 1, {}
for name in string.gmatch(all, '%S+') do
  if name ~= writer then
    local w = who(name)
    others[#others + 1] = name
    if w and w.till >= now then members = members + 1 end
  end
end
local state = ''
if not mine then
  if not string.find(' ' .. all .. ' ', ' ' .. writer .. ' ', 1, true) then
    redis.call('HSET', KEYS[1], 'writers', all == '' and writer or all .. ' ' .. writer)
  end
  state = 'new'
end
if learning then members = math.max(members, known) end
local till = what == 'bye' and now - 1 or now + LIVES
redis.call('HSET', KEYS[1], 'w ' .. writer, string.format('1 %d %d %d %s %s', taken, seq, till, self, machine))

-- A lease grows by what is needed, if it is there, and by a small part of what is left then,
-- but for what somebody lacks. What is too little for the call that waits stays for others:
-- gateways that ask for the last characters at once would keep each other from them.
local function grow(keep, need, enough, want, free, lacking, least)
  free = math.max(free, 0)
  free = math.floor(free)
  local got = math.min(need, free)
  if got < enough then got = 0 end
  local block = math.floor(math.max(free - got - lacking, 0) / (4 * members))
  if block < least and free - got >= 2 * members * least then block = least end
  got = got + math.min(want, block)
  return keep + got, math.max(free - got - lacking, 0)
end

local out = {}
for at = 9, #ARGV - PARTS + 1, PARTS do
  local key, total, cap, far = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local need, enough = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local want, limit = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
  local fields = {'c ' .. key .. ' ' .. writer, 'r ' .. key .. ' ' .. writer, 'n ' .. key}
  for _, name in ipairs(others) do
    fields[#fields + 1] = 'c ' .. key .. ' ' .. name
    fields[#fields + 1] = 'r ' .. key .. ' ' .. name
  end
  local values = redis.call('HMGET', KEYS[1], unpack(fields))
  local used, leased, calls, soonest = 0, 0, 0, 0
  local function leaves(list)
    for n, when in string.gmatch(list, '(%d+):(%d+)') do
      if tonumber(when) > now then
        calls = calls + n
        if soonest == 0 or tonumber(when) < soonest then soonest = tonumber(when) end
      end
    end
  end
  for i = 4, #fields, 2 do
    if values[i] then
      local v, n, till, ends = string.match(values[i], '^(%d+) (%d+) (%d+) (%d+)$')
      if v == '1' then
        used = used + n
        if tonumber(ends) >= now then leased = leased + math.max(0, till - n) end
      else
        newer = true
      end
    end
    if values[i + 1] then
      local v, lease, ends, list = string.match(values[i + 1], '^(%d+) (%d+) (%d+) (%S*)$')
      if v == '1' then
        if tonumber(ends) >= now then calls = calls + lease end
        leaves(list)
      else
        newer = true
      end
    end
  end
  if learning then leased = math.max(leased, ARGV[at + 8] + ARGV[at + 9] - used) end
  used = math.max(used, tonumber(ARGV[at + 8]))
  if values[1] then
    local v, n = string.match(values[1], '^(%d+) (%d+) ')
    if v == '1' then total = math.max(total, tonumber(n)) end
  end
  cap = math.max(cap, total)
  local lacking = 0
  if limit > 0 and what == 'tell' then
    local rest, free = nil, limit - used - leased - cap
    if learning then
      -- Half of what was free at first may be needed by who has not said so since we were gone.
      local name = 'b ' .. key .. ' ' .. writer
      local since, most = string.match(redis.call('HGET', KEYS[1], name) or '', '^(%d+) (%d+)$')
      if tonumber(since or '') ~= epoch then
        most = cap + math.floor(math.max(free, 0) / 2)
        redis.call('HSET', KEYS[1], name, string.format('%d %d', epoch, most))
      end
      free = math.min(free, most - cap)
    end
    -- A call that found too little has the others keep less for calls to come.
    local till, n = string.match(values[3] or '', '^(%d+) (%d+)$')
    if till and tonumber(till) >= now then lacking = tonumber(n) end
    if enough > free and used + total + enough <= limit then
      lacking = math.max(lacking, enough)
      redis.call('HSET', KEYS[1], fields[3], string.format('%d %d', now + LACKS, lacking))
    end
    cap, rest = grow(cap, need, enough, want, free, lacking, 0)
    -- What it may go on with while we are away is as small a part, and others cannot have it.
    if want > 0 then far = math.max(far, cap + math.floor(rest / (4 * members))) end
  end
  far = math.max(far, cap)
  local lease = what == 'tell' and now + LEASE or 0
  redis.call('HSET', KEYS[1], fields[1], string.format('1 %d %d %d', total, far, lease))

  local most, left, theirs, grant = tonumber(ARGV[at + 10]), tonumber(ARGV[at + 11]), 0, 0
  if most > 0 then
    theirs = calls
    if learning then theirs = math.max(theirs, tonumber(ARGV[at + 14])) end
    local own = {}
    calls = 0
    for n, ms in string.gmatch(ARGV[at + 15], '(%d+):(%d+)') do
      own[#own + 1] = string.format('%d:%d', tonumber(n), now + ms)
    end
    local list = table.concat(own, ',')
    leaves(list)
    if what == 'tell' then
      grant = grow(left, tonumber(ARGV[at + 12]), 0, tonumber(ARGV[at + 13]), (most - theirs - calls - left) / (learning and 2 or 1), 0, 1)
    end
    redis.call('HSET', KEYS[1], fields[2], string.format('1 %d %d %s', grant, lease, list))
  elseif values[2] then
    redis.call('HDEL', KEYS[1], fields[2])
  end
  for _, n in ipairs({total, used, leased + lacking, cap, far, theirs, grant, math.max(0, soonest - now)}) do
    out[#out + 1] = string.format('%d', n)
  end
end
redis.call('PEXPIRE', KEYS[1], KEEP)
if newer then state = 'newer' end
return {state, string.format('%d', taken), string.format('%d', members), unpack(out)}
