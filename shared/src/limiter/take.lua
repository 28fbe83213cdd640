-- Takes up to ARGV[1] calls from every bucket in KEYS at once; returns {granted, left, microseconds to wait}.
-- ARGV[2i], ARGV[2i+1]: for bucket i, microseconds that one call costs, microseconds that a full bucket holds.
-- Each key holds one number, the theoretical arrival time (GCRA): the moment at which the bucket is full again.
-- Redis's clock is the only clock.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local want = tonumber(ARGV[1])
local saved = redis.call('MGET', unpack(KEYS))
local tats, can, wait = {}, want + 4294967295, 0
for i = 1, #KEYS do
  local cost, span = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local tat = math.max(tonumber(saved[i] or 0), now)
  tats[i] = tat
  can = math.min(can, math.max(0, math.floor((now + span - tat) / cost)))
end
local granted = math.min(want, can)
for i = 1, #KEYS do
  local cost, span = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local tat = tats[i] + granted * cost
  if granted > 0 then
    redis.call('SET', KEYS[i], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000) + 1000)
  end
  wait = math.max(wait, tat + cost - span - now)
end
local left = math.min(can - granted, 4294967295)
if left > 0 then wait = 0 end
return {granted, left, math.ceil(wait)}
