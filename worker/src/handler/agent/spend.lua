-- Counts what is spent in a day (UTC, on the clock of Redis), against bounds that hold together or not at all.
-- KEYS: one hash for each sum. ARGV: 1 nano-dollars, below zero to give back; 2 the day that they were taken in, -1 to take
-- them now; then for each key its bound, -1 for none.
-- Gives: which key is over its bound (0 for none), the day, seconds until the next.
local time = redis.call('TIME')
local day = math.floor(time[1] / 86400)
local left = (day + 1) * 86400 - time[1]
local sum, taken = tonumber(ARGV[1]), tonumber(ARGV[2])
local spent = {}
for i, key in ipairs(KEYS) do
    local of = tonumber(redis.call('HGET', key, 'day') or '-1')
    -- A clock that went back opens no new day.
    day = math.max(day, of)
end
for i, key in ipairs(KEYS) do
    local of = tonumber(redis.call('HGET', key, 'day') or '-1')
    spent[i] = of == day and tonumber(redis.call('HGET', key, 'spent') or '0') or 0
    local bound = tonumber(ARGV[i + 2])
    if taken < 0 and bound >= 0 and spent[i] + sum > bound then
        -- For people who ask what is in the way.
        redis.call('HSET', key, 'over', string.format('%.0f', sum), 'over_day', string.format('%d', day))
        redis.call('EXPIRE', key, 172800)
        return {i, day, left}
    end
end
if taken >= 0 and taken ~= day then
    return {0, day, left}
end
for i, key in ipairs(KEYS) do
    redis.call('HSET', key, 'day', string.format('%d', day), 'spent', string.format('%.0f', math.max(0, spent[i] + sum)))
    redis.call('EXPIRE', key, 172800)
end
return {0, day, left}
