-- Keeps an entry, unless a later one is there or whoever brings it has lost the lock, and makes room for it.
-- KEYS: 1 the entry, 2 its lock, 3 the digests of all entries by when they lapse, 4 their sizes and, as `total`, the sum.
-- ARGV: 1 the entry, 2 how long it is kept in ms, 3 most bytes of all entries, 4 the lock's fence or nothing, 5 the digest,
-- 6 what every entry's key begins with.
-- Gives the bytes of all entries, and whether it was kept, and how many had to go.
local total = tonumber(redis.call('HGET', KEYS[4], 'total') or '0')
if ARGV[4] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[4] then
    return {total, 0, 0}
end
-- Version and time: see codec.rs.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local there = redis.call('GETRANGE', KEYS[1], 0, 8)
if #there == 9 and string.sub(there, 1, 1) == string.sub(ARGV[1], 1, 1) then
    local at = struct.unpack('>I8', there, 2)
    -- What says that it is of the future is rubbish.
    if at > struct.unpack('>I8', ARGV[1], 2) and at <= now + 2000 then
        return {total, 0, 0}
    end
end
-- What Redis needs beside the entry itself: its key, a place in each list, and their overhead, measured.
local size = #ARGV[1] + 600
local most = tonumber(ARGV[3])
if size > most then
    return {total, 0, 0}
end
local function forget(digest)
    local bytes = redis.call('HGET', KEYS[4], digest)
    redis.call('ZREM', KEYS[3], digest)
    if bytes then
        redis.call('HDEL', KEYS[4], digest)
        total = redis.call('HINCRBY', KEYS[4], 'total', -bytes)
    end
end
-- What has lapsed counts no more; a few at a time, for there are never more new ones than that.
for _, digest in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 16)) do
    forget(digest)
end
forget(ARGV[5])
-- Nobody else's question may wait for long: a large entry that would push out many small ones is let in when they are gone.
local evicted = 0
while total + size > most and evicted < 64 do
    local first = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
    if not first then
        redis.call('DEL', KEYS[4])
        total = 0
        break
    end
    redis.call('UNLINK', ARGV[6] .. first)
    forget(first)
    evicted = evicted + 1
end
if total + size > most then
    redis.call('UNLINK', KEYS[1])
    return {total, 0, evicted}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[5])
redis.call('HSET', KEYS[4], ARGV[5], size)
total = redis.call('HINCRBY', KEYS[4], 'total', size)
return {total, 1, evicted}
