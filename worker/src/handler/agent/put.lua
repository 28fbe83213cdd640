-- Keeps an answer, if whoever brings it still holds the question's lock, and makes room for it.
-- KEYS: 1 the answer, 2 the lock, 3 the answers by when they lapse, 4 their sizes and, as `total`, the sum of them.
-- ARGV: 1 the answer, 2 the fence, 3 how long it is kept in ms, 4 most bytes of all answers.
if redis.call('GET', KEYS[2]) ~= ARGV[2] then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local size = #ARGV[1] + #KEYS[1] + 64
local most = tonumber(ARGV[4])
if size > most then
    return 0
end
local function forget(key)
    local bytes = redis.call('HGET', KEYS[4], key)
    redis.call('ZREM', KEYS[3], key)
    if bytes then
        redis.call('HDEL', KEYS[4], key)
        redis.call('HINCRBY', KEYS[4], 'total', -bytes)
    end
end
-- What has lapsed counts no more; a few at a time, for there are never more new ones than that.
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 16)) do
    forget(key)
end
forget(KEYS[1])
while tonumber(redis.call('HGET', KEYS[4], 'total') or '0') + size > most do
    local first = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
    if not first then
        redis.call('DEL', KEYS[4])
        break
    end
    redis.call('DEL', first)
    forget(first)
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('ZADD', KEYS[3], now + ARGV[3], KEYS[1])
redis.call('HSET', KEYS[4], KEYS[1], size)
redis.call('HINCRBY', KEYS[4], 'total', size)
return 1
