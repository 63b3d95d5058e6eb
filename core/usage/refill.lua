-- What a gateway finds in its folder of former processes, and of a month that is over: the
-- hash KEYS[1] is that of the month. ARGV: 2 and so on, in threes: the name under which it was
-- counted, the key, and the characters. What is known already and is more stays.
local writers = redis.call('HGET', KEYS[1], 'writers') or ''
for i = 2, #ARGV - 2, 3 do
  local name, field, total = ARGV[i], 'c ' .. ARGV[i + 1] .. ' ' .. ARGV[i], tonumber(ARGV[i + 2])
  if not string.find(' ' .. writers .. ' ', ' ' .. name .. ' ', 1, true) then
    writers = writers == '' and name or writers .. ' ' .. name
  end
  local value = redis.call('HGET', KEYS[1], field)
  local v, n, far, ends
  if value then
    v, n, far, ends = string.match(value, '^(%d+) (%d+) (%d+) (%d+)$')
  end
  if not value then
    redis.call('HSET', KEYS[1], field, string.format('1 %d %d 0', total, total))
  elseif v == '1' and tonumber(n) < total then
    redis.call('HSET', KEYS[1], field, string.format('1 %d %d %d', total, math.max(total, far), ends))
  end
end
redis.call('HSET', KEYS[1], 'writers', writers)
redis.call('PEXPIRE', KEYS[1], 6048000000)
return {'ok'}
