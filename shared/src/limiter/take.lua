-- Takes up to `want` calls from every bucket in KEYS[2..] at once, or none. The arithmetic and its reasons are in
-- bucket.rs, which does the same in the same order. Times are microseconds since 2026-01-01 UTC on Redis's clock.
-- KEYS[1] holds since when this Redis knows of calls. ARGV[1], msgpack: {want, ahead, block,
-- token, anew, full, holder, keys, idle}.
local want, ahead, block, token, anew, full, holder, keys, idle = unpack(cmsgpack.unpack(ARGV[1]))
local EPOCH, NEAR, COARSE, LONGEST_AHEAD, CONFIRMED = 1767225600000000, 0.5, 1500000, 600000, 10000000
local max, min, floor, ceil = math.max, math.min, math.floor, math.ceil
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2] - EPOCH

-- What is none of ours counts as missing: a bucket of an unknown past is an empty one.
local function read(saved, length)
  local ok, value = pcall(cmsgpack.unpack, saved or '')
  if ok and type(value) == 'table' and #value >= length then return value end
end

local mark, born, known = read(redis.pcall('GET', KEYS[1]), 2), nil, nil
if mark and type(mark[1]) == 'number' and mark[1] <= now then born, known = unpack(mark) else mark = nil end
if not mark or anew or (token ~= '' and known ~= token) then
  born = (full and not mark) and 0 or now
  redis.call('SET', KEYS[1], cmsgpack.pack({born, token}))
end

-- State of any kind: 2 push, 6 blocked, 7 total, 8 ceiling, 9 reset, 10 over, 11 unit.
-- Paced: 1 tat, 3 epoch, 4 prev, 5 cur, 12 line, 13 back, 14 last. Window: 1 edge, 3 used. At once: 1 holders {id, calls, until, ...}.
local paced, window, at_once = {}, {}, {}

-- k.a: interval, k.b: period, k.c: slack.
function paced.load(k, s)
  local emptied = born + LONGEST_AHEAD + k.c + k.a
  s = s or {emptied, 0, born, 0, 0, 0, 0, 0, 0, 0, k.unit, 0, 0, 0}
  if s[3] < born then s[1], s[3], s[4], s[5], s[12] = max(s[1], emptied), born, 0, 0, 0 end
  if s[12] <= 0 then s[12], s[13], s[14] = now, 0, 0 end
  return s
end
function paced.halves(s, half, u)
  local epoch = s[3]
  if u >= epoch + 2 * half then return u - half, 0, 0 end
  if u >= epoch + half then return epoch + half, s[5], 0 end
  return epoch, s[4], s[5]
end
function paced.idle(k, s, u)
  local half = k.b / 2
  local epoch, prev, cur = paced.halves(s, half, u)
  local gap = max(0, u - s[1])
  local here = min(gap, u - epoch)
  cur = min(cur + here, half)
  prev = min(prev + min(gap - here, half), half)
  return epoch, prev, cur, min(prev + cur, k.c)
end
function paced.first(k, s, u)
  local _, _, _, idle = paced.idle(k, s, u)
  return max(s[1], u) + (k.cost - 1) * k.a - idle
end
function paced.room(k, s, u)
  local epoch, _, cur, idle = paced.idle(k, s, u)
  local step = k.cost * k.a
  local now_ = floor((idle + u - max(s[1], u) - (k.cost - 1) * k.a + NEAR) / step) + 1
  local lasts = u + block <= epoch + k.b / 2 or cur >= idle
  return now_, lasts and want or now_, step
end
-- See unused.rs.
function paced.shorten(s, unused, at, line)
  if line ~= s[12] then return unused end
  local place = at - s[13]
  local behind = max(place, s[14])
  local gone = max(min(min(place + unused, s[1]) - behind, unused), 0)
  s[1], s[13] = s[1] - gone, s[13] + gone
  return unused - gone
end
function paced.book(k, s, u, n, last)
  local epoch, prev, cur = paced.idle(k, s, u)
  local step = k.cost * k.a
  k.place, s[14] = max(s[1], u) + s[13], max(s[14], last)
  s[1], s[3], s[4], s[5] = max(max(s[1], u) + n * step, last + step), epoch, prev, cur
end
function paced.till(k, s, reset)
  local _, _, _, idle = paced.idle(k, s, now)
  return max(0, min(reset - max(s[1], now) + idle, k.b)) / k.a
end
function paced.spare(k, s, u)
  local epoch, prev, cur, early = paced.idle(k, s, u)
  local burst = floor(min(k.c / k.a + 1.5, k.b / k.a / 2))
  local stays = max(1, ceil(burst / 2))
  local at_once = early + u - max(s[1], u) - (stays - 1) * k.a
  local in_all = prev + cur + epoch - u
  return floor((min(at_once, in_all) + NEAR) / (k.cost * k.a)), k.b / k.a / 2
end
function paced.keep(k, s) return max(s[1] - now, 0) + k.b end

-- k.a: calls, k.b: period, k.c: guard, k.d: aligned.
function window.load(k, s) return s or {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, k.unit, 0, 0, 0} end
function window.cap(k, u) return u < born + k.b and floor(k.a * (u - born) / k.b) or k.a end
function window.next_edge(k, u) return (floor((u + EPOCH) / k.b) + 1) * k.b - EPOCH end
function window.first(k, s, u)
  local opens = s[1] - k.b - (k.d and 0 or k.c)
  if u < opens - NEAR then return opens end
  if k.d then
    local edge = window.next_edge(k, u)
    if edge - u < k.c then return edge + k.c end
    if u - (edge - k.b) < k.c then return edge - k.b + k.c end
  elseif u < s[1] and s[1] - u < 2 * k.c then
    return s[1]
  end
  local open = u < s[1]
  local after = (open and s[3] or 0) + k.cost
  if after <= window.cap(k, u) then return u end
  local grown = after > k.a and s[1] or born + after * k.b / k.a + 1
  return open and min(s[1], grown) or grown
end
function window.room(k, s, u)
  local left = floor((window.cap(k, u) - (u < s[1] and s[3] or 0)) / k.cost)
  return left, left, 0
end
function window.book(k, s, u, n)
  if u >= s[1] then s[1], s[3] = k.d and window.next_edge(k, u) or u + k.b + k.c, 0 end
  s[3] = s[3] + n * k.cost
end
function window.till(k, s) return now < s[1] and k.a - s[3] or k.a end
function window.left(k, s) return now < s[1] and k.a - s[3], s[1] - now end
function window.spare(k, s, u)
  local left = window.cap(k, u) - (u < s[1] and s[3] or 0)
  return floor((left - k.a / 2) / k.cost), k.a / 2
end
function window.keep(k, s) return max(s[1] - now, 0) + k.b end

-- k.a: calls, k.b: held by the asker, k.c: how long they are believed to be held.
function at_once.load(k, s)
  s = s or {{}, 0, 0, 0, 0, 0, 0, 0, 0, 0, k.unit, 0, 0, 0}
  local others, free = {}, k.a - k.b
  for h = 1, #s[1], 3 do
    if s[1][h] ~= holder and s[1][h + 2] > now and s[1][h + 2] <= now + k.c then
      for j = 0, 2 do others[#others + 1] = s[1][h + j] end
      free = free - s[1][h + 1]
    end
  end
  s[1], k.free, k.changed = others, free, true
  at_once.book(k, s, now, 0)
  return s
end
function at_once.first(k, _, u)
  if u < born + CONFIRMED then return born + CONFIRMED end
  return k.free > 0 and u or u + 20000
end
function at_once.room(k) return k.free, k.free, 0 end
function at_once.book(k, s, _, n)
  if n > 0 and k.b > 0 then for _ = 1, 3 do s[1][#s[1]] = nil end end
  if k.b + n > 0 then
    s[1][#s[1] + 1], s[1][#s[1] + 2], s[1][#s[1] + 3] = holder, k.b + n, now + k.c
  end
end
function at_once.till(k) return k.a end
function at_once.spare(k) return floor(k.free - k.a / 2), k.a / 2 end
function at_once.keep(k) return k.c end

-- Whether a state can be one: numbers, none of them further ahead than any limit speaks of; or holders.
local FURTHEST = 2764800000000
local function number(value, most) return type(value) == 'number' and value == value and value <= most end
local function sound(s)
  for n = 2, 10 do
    local time = n == 3 or n == 6 or n == 9
    if not number(s[n], time and now + FURTHEST or 1e15) then return false end
  end
  for n = 11, 14 do
    if s[n] ~= nil and not number(s[n], 1e15) then return false end
  end
  if type(s[1]) ~= 'table' then return s[11] ~= -3 and number(s[1], now + FURTHEST) end
  for h = 1, #s[1], 3 do
    if type(s[1][h]) ~= 'string' or not number(s[1][h + 1], 1e9) or not number(s[1][h + 2], now + FURTHEST) then
      return false
    end
  end
  return s[11] == -3
end

local kinds, saved, all = {paced, window, at_once}, redis.call('MGET', unpack(KEYS, 2)), {}
for i, raw in ipairs(keys) do
  local k = {kind = kinds[raw[1]], cost = raw[2], shadow = raw[3], a = raw[4], b = raw[5], c = raw[6], d = raw[7]}
  k.unit = raw[1] == 1 and k.a or -raw[1]
  local old = read(saved[i], 10)
  if old and not sound(old) then old = nil end
  if old and (old[11] or 0) ~= 0 and old[11] ~= k.unit then
    if old[11] > 0 and k.unit > 0 then
      old[1] = now + max(0, old[1] - now) * k.unit / old[11]
    else
      old[1] = k.kind == paced and now + k.c + k.a or k.kind == window and 0 or {}
      old[3], old[4], old[5] = k.kind == paced and now or 0, 0, 0
    end
    old[12] = 0
  end
  if old then old[11], old[12], old[13], old[14] = k.unit, old[12] or 0, old[13] or 0, old[14] or 0 end
  local s = k.kind.load(k, old)
  if raw[8] then
    local late, unused, unused_age, settle, settle_age, pause, ceiling, left, reset, tolerance, place, line =
      unpack(raw[8])
    local unused_at, settled_at = now - unused_age, now - settle_age
    k.changed = true
    if late > s[2] then
      local more = min(late - s[2], 1000000)
      s[2] = s[2] + more
      if k.kind == paced or k.kind == window and s[1] > now then s[1] = s[1] + more end
    end
    if k.kind == paced then
      local half = k.b / 2
      s[3], s[4], s[5] = paced.halves(s, half, now)
      local free = paced.shorten(s, unused * k.a, place, line)
      if unused_at >= s[3] then
        s[5] = min(s[5] + free, half)
      elseif unused_at >= s[3] - half then
        s[4] = min(s[4] + free, half)
      end
      if settle > 0 or settled_at > now - k.b then
        s[1], s[13] = s[1] + settle * k.a, s[13] + max(-settle * k.a, 0)
      end
    elseif k.kind == window then
      local opens = s[1] - k.b - (k.d and 0 or k.c)
      if unused_at >= opens then s[3] = s[3] - unused end
      if settle > 0 or settled_at >= opens then s[3] = s[3] + settle end
      s[3] = max(0, s[3])
    end
    if pause > 0 then s[6] = max(s[6], now + pause) end
    if reset > 0 then
      local newer = now >= s[9] or now + reset > s[9] + max(COARSE, reset / 8)
      local edge = now + min(reset, k.b)
      if k.kind == window and edge - s[1] > COARSE then s[1] = edge end
      if left < k.kind.till(k, s, now + reset) - tolerance then
        if newer then s[8], s[9] = ceiling, now + reset else s[8] = min(s[8], ceiling) end
      elseif newer then
        s[8], s[9] = 0, 0
      end
    end
  end
  k.s, all[i] = s, k
end

local function first(k, u)
  local s, at = k.s, k.kind.first(k, k.s, u)
  if u < s[9] and s[7] + k.cost > s[8] then at = max(at, s[9]) end
  return max(at, s[6])
end

-- The first moment at which every bucket lets a call through.
local start, which, met = now, 0, false
for _ = 1, 4 do
  local latest = start
  for i, k in ipairs(all) do
    if not k.shadow then
      local at = first(k, start)
      if at > latest + NEAR then latest, which = at, i end
    end
  end
  met = latest <= start + NEAR
  if met then break end
  start = latest
end

local granted, burst, step, over = 0, 0, 0, {}
if want > 0 and met and start - now <= ahead then
  local hard = want
  burst = want
  for _, k in ipairs(all) do
    if not k.shadow then
      local at_start, in_all, gap = k.kind.room(k, k.s, start)
      if start < k.s[9] then in_all = min(in_all, floor((k.s[8] - k.s[7]) / k.cost)) end
      if idle then
        local spare, half = k.kind.spare(k, k.s, start)
        if start < k.s[9] then spare = min(spare, floor((k.s[8] - k.s[7] - half) / k.cost)) end
        in_all = min(in_all, max(0, spare))
      end
      hard, burst, step = min(hard, in_all), min(burst, at_start), max(step, gap)
    end
  end
  burst = max(0, min(burst, hard))
  granted = step > 0 and min(hard, burst + floor(block / step)) or burst
end

local marks, lefts = {}, {}
for i, k in ipairs(all) do
  local mark = 4 * i - 3
  marks[mark], marks[mark + 1], over[i] = k.s[2], k.s[7], 0
  if granted > 0 then
    if k.shadow and (first(k, start) > start + NEAR or k.kind.room(k, k.s, start) < granted) then
      k.s[10], over[i] = k.s[10] + granted, granted
    else
      k.kind.book(k, k.s, start, granted, start + max(0, granted - burst) * step)
      k.s[7] = k.s[7] + granted * k.cost
    end
    k.changed = true
  end
  marks[mark + 2], marks[mark + 3] = k.place or 0, k.place and k.s[12] or 0
  -- What is left until a reset, where one is known; -1 where none is.
  local left, reset = -1, 0
  if k.kind.left then left, reset = k.kind.left(k, k.s) end
  if now < k.s[9] and not (left and left >= 0 and left < k.s[8] - k.s[7]) then left, reset = k.s[8] - k.s[7], k.s[9] - now end
  lefts[2 * i - 1], lefts[2 * i] = left or -1, left and reset or 0
  if k.changed then
    local keep = max(k.kind.keep(k, k.s), k.s[6] - now, k.s[9] - now)
    redis.call('SET', KEYS[i + 1], cmsgpack.pack(k.s), 'PX', ceil(keep / 1000) + 1000)
  end
end
return cmsgpack.pack({now, granted, max(0, start - now), burst, step, which, marks, over, lefts})
