-- What was used of a day, for reports: the hash KEYS[1] is that of the day. ARGV: 2 'put' or
-- 'get'. Put has in threes: a field, by whom it was counted, key and door; the number of what
-- it was told with, of which the highest stays; and what was used, as JSON. Get returns all
-- fields and values.
if ARGV[2] == 'get' then return redis.call('HGETALL', KEYS[1]) end
for i = 3, #ARGV - 2, 3 do
  local was = redis.call('HGET', KEYS[1], ARGV[i])
  was = was and tonumber(string.match(was, '^(%d+) ') or 0) or -1
  if tonumber(ARGV[i + 1]) > was then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[i + 2])
  end
end
redis.call('PEXPIRE', KEYS[1], 6048000000)
return {}
