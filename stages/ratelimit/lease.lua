-- A gateway says what it has spent of one account, and hears what it may spend until it
-- says so again. Each gateway has a field of its own in the hash KEYS[1], which holds what it
-- said last, in absolute values: to say it twice, or to lose the answer, changes nothing.
--
-- For every unit of an account: what all gateways have spent of the last minute, and what
-- they may still spend before they say so, is together never more than the limit.
--
-- ARGV: 2 who says it, 3 its machine, 4 the number of this call, 5 'renew' or 'bye', 6 'open'
-- after a good answer to a probe, 7 for how many ms the upstream has shut the account, 8 how
-- long a call may last in ms, 9 how urgent what waits is, 10 the number of the last of its calls
-- that was answered in the last minute, or 0. Then for each unit: what is
-- configured, what the upstream said (0: nothing), what calls that run have, what is to be
-- kept of the last grant, what is wanted, and what calls that ended had, as n:ms,... where
-- ms is in how long it leaves the minute.
local MINUTE, GRANT, RESERVE, UNITS = 60000, 2000, 600000, 2

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local self, machine, seq, longest = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[8])
local weight, known = tonumber(ARGV[9]), tonumber(ARGV[10])

local field, said, others, mine, newer = {}, {}, {}, nil, false
local served = {[machine] = true} -- machines on which a gateway lives
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local name, value = all[i], all[i + 1]
  if string.sub(name, 1, 2) == 'g:' then
    local ok, r = pcall(cjson.decode, value)
    if not ok or type(r) ~= 'table' or r.v ~= 1 then
      newer = true
    elseif name == 'g:' .. self then
      mine = r
    else
      r.name, r.live = name, r.t >= now and not r.bye
      said[#said + 1] = r
      if r.live then served[r.m] = true end
    end
  else
    field[name] = value
  end
end
if mine and mine.s >= seq then return {'stale'} end
for _, r in ipairs(said) do
  -- One that does not say anything any more may have lost us and go on with its share,
  -- unless it said good-bye, or has begun anew.
  r.apart = not r.live and not r.bye and not served[r.m] and now < r.t + RESERVE
  r.held = now < r.t + MINUTE + r.l
  if r.live or r.apart or r.held then
    others[#others + 1] = r
  else
    redis.call('HDEL', KEYS[1], r.name)
  end
end

local members = 1
for _, r in ipairs(others) do
  if r.live or r.apart then members = members + 1 end
end

-- An empty hash means that what the others have spent is not known; and so does one that lacks
-- what was said: a store that crashed begins with what it saved once, and one that takes over
-- from another lacks the last that it was told.
local epoch = tonumber(field.epoch)
if not epoch or known > 0 and (not mine or mine.s < known) then
  epoch = now
  redis.call('HSET', KEYS[1], 'epoch', now)
end
local learning = newer or now < epoch + MINUTE + longest

-- A pause is that of all, and at its end one of them asks whether it is over.
local pause = tonumber(field.pause)
if ARGV[6] == 'open' and pause and (not field.probe or field.probe == self) then
  redis.call('HDEL', KEYS[1], 'pause', 'probe', 'probing')
  redis.call('PUBLISH', ARGV[1], 'open ' .. KEYS[1] .. ' ' .. self)
  pause, field.probe = nil, nil
end
if tonumber(ARGV[7]) > 0 then
  local till = now + ARGV[7]
  if not pause or till > pause then
    pause = till
    redis.call('HSET', KEYS[1], 'pause', string.format('%d', till))
    redis.call('PUBLISH', ARGV[1], 'pause ' .. KEYS[1] .. ' ' .. self .. ' ' .. ARGV[7])
  end
  redis.call('HDEL', KEYS[1], 'probe', 'probing')
  field.probe = nil
end
local state, wait = '', 0
if pause and now < pause then
  state, wait = 'paused', pause - now
elseif pause then
  local wanted = tonumber(ARGV[15]) > 0
  local free = not field.probe or field.probe == self or tonumber(field.probing or 0) < now
  if free and wanted and ARGV[5] == 'renew' then
    redis.call('HSET', KEYS[1], 'probe', self, 'probing', string.format('%d', now + longest))
    state = 'probe'
  else
    state, wait = 'paused', 250
  end
end

local answer = {state, tostring(wait), tostring(members)}
local record = {v = 1, s = seq, t = now + GRANT, m = machine, l = longest, w = weight, u = {}}
if ARGV[5] == 'bye' then record.bye = true end

for u = 1, UNITS do
  local at = 11 + (u - 1) * 6
  local configured, told, running = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local keep, want = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local ended, used = {}, running
  for n, ms in string.gmatch(ARGV[at + 5], '(%d+):(%d+)') do
    ended[#ended + 1] = tonumber(n)
    ended[#ended + 1] = now + ms
    used = used + n
  end

  local limit = 0
  local function lower(l) if l > 0 and (limit == 0 or l < limit) then limit = l end end
  lower(configured)
  lower(told)
  for _, r in ipairs(others) do
    if r.live then
      lower(r.u[u].c)
      lower(r.u[u].k)
    end
  end

  local spent, wants, urgent = 0, 0, 0 -- of the others
  for _, r in ipairs(others) do
    local o, n = r.u[u], 0
    for i = 1, #o.e, 2 do
      if o.e[i + 1] > now then n = n + o.e[i] end
    end
    if r.held then n = n + o.h + o.g end
    if r.apart then -- it has gone on with its share since its lease ended, and will
      local share = math.floor(limit / members)
      n = math.max(n + math.floor(share * math.min((now - r.t) / MINUTE, 1)), share)
    end
    spent = spent + n
    if r.live then
      local more = math.max(0, o.n - o.g)
      wants = wants + more
      urgent = urgent + more * r.w
    end
  end

  local grant = 0
  if limit == 0 or ARGV[5] == 'bye' then
    grant = 0
  elseif learning then
    -- It goes on with its share, of which it may start so much before it says so.
    grant = math.max(keep, math.ceil(limit / members * GRANT / MINUTE) + 1)
  elseif state == 'paused' then
    grant = 0
  elseif state == 'probe' then
    grant = math.max(keep, want)
  else
    local free = limit - spent - used
    if want + wants <= free then
      -- Plenty: a second's worth more, so that nobody has to ask first.
      grant = want + math.min(math.floor((free - want - wants) / (2 * members)), math.ceil(limit / 60))
    elseif want > 0 then
      grant = math.ceil(free * want * weight / (want * weight + urgent))
    end
    grant = math.max(keep, math.min(grant, free))
  end
  record.u[u] = {c = configured, k = told, h = running, g = grant, n = want, e = ended}
  answer[#answer + 1] = string.format('%d', grant)
  answer[#answer + 1] = string.format('%d', limit)
end
if learning then answer[1] = state == '' and 'share' or state end

redis.call('HSET', KEYS[1], 'g:' .. self, cjson.encode(record))
redis.call('PEXPIRE', KEYS[1], 2 * RESERVE)
if newer then answer[#answer + 1] = 'newer' end
return answer
