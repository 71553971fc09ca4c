-- Shares out what a gateway takes, among all the batches that wait for it.
--
-- KEYS[1]  hash   spent: the moment up to which the gateway's time has been given away
--                 kept: the moment up to which those are booked again whose turn came too soon
-- KEYS[2]  zset   the line: who waits, by the moment of their appointment
-- KEYS[3]  list   grants of the last window, oldest first, each "moment messages"
-- KEYS[4]  set    those in the line who are booked again
--
-- ARGV[1]  who asks
-- ARGV[2]  how many messages they want
-- ARGV[3]  interval: how long the gateway takes for a message
-- ARGV[4]  portion: messages that a turn is good for
-- ARGV[5]  window: the time in which no more than ARGV[6] messages may be granted
-- ARGV[6]  limit
-- ARGV[7]  arrears: how much time is made up for at most, if somebody waited meanwhile
-- ARGV[8]  grace: how long what belongs to a turn is kept for somebody who is late
-- ARGV[9]  pause: the least time between two questions of somebody who got nothing
-- ARGV[10] spread: the time between two questions of all who wait together
-- ARGV[11] longest: the longest time that anybody is told to wait
-- ARGV[12] life: after which a gateway is forgotten that nobody asks for
--
-- Returns the messages granted, and the time to wait before the next question. Moments and times
-- are microseconds by the broker's clock: there is one for all workers.

local state, line, grants, again = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local who = ARGV[1]
local given = {}
for place = 2, 12 do
    given[place] = tonumber(ARGV[place])
end
local wanted, interval, portion, window, limit = given[2], given[3], given[4], given[5], given[6]
local arrears, grace, pause, spread = given[7], given[8], given[9], given[10]
local longest, life = given[11], given[12]

-- tostring() keeps 14 digits, and a moment has 16.
local function exact(number)
    return string.format('%.3f', number)
end

local told = redis.call('TIME')
local now = told[1] * 1000000 + told[2]

-- The broker's clock may be set back: a little is waited for, more begins anew.
local latest = redis.call('LINDEX', grants, -1)
if latest then
    local last = tonumber(string.match(latest, '^%S+'))
    if last > now + window then
        redis.call('DEL', state, line, grants, again)
    else
        now = math.max(now, last)
    end
end

-- What the window holds.
local entries = {}
local held = 0
for _, entry in ipairs(redis.call('LRANGE', grants, 0, -1)) do
    local moment, messages = string.match(entry, '^(%S+) (%S+)$')
    if tonumber(moment) + window > now then
        entries[#entries + 1] = {tonumber(moment), tonumber(messages)}
        held = held + tonumber(messages)
    else
        redis.call('LPOP', grants)
    end
end
local room = math.max(0, limit - held)

-- Those whose appointment is long past will not come any more.
redis.call('ZREMRANGEBYSCORE', line, '-inf', exact(now - longest))
local place = tonumber(redis.call('ZSCORE', line, who) or nil)
local has_turn = place ~= nil and place <= now

-- Time that has passed unused is made up for only if somebody waited: a pause saves nothing up.
local somebody_waits = redis.call('ZCARD', line) > 0
local saved = somebody_waits and math.max(arrears, 2 * portion * interval) or portion * interval
local spent, kept = unpack(redis.call('HMGET', state, 'spent', 'kept'))
spent = math.max(tonumber(spent or 0), now - saved)
kept = tonumber(kept or 0)

-- In messages, and parts of one. The half microsecond is what rounding may have taken.
local function free()
    return math.max(0, (now - spent + 0.5) / interval)
end

-- What belongs to others: to those who are due and late, and to the next one to come.
local function belongs_to_others()
    local due = redis.call('ZCOUNT', line, '(' .. exact(now - grace), exact(now))
    if has_turn and place > now - grace then
        due = due - 1
    end
    local coming = redis.call(
        'ZRANGEBYSCORE', line, '(' .. exact(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 2)
    local first = coming[1] == who and 3 or 1
    local next_one = 0
    if coming[first] then
        next_one = math.max(0, portion - (tonumber(coming[first + 1]) - now) / interval)
    end
    return due * portion + next_one
end

-- A turn is good for a portion, behind those whose turn was earlier.
local function by_turn()
    if not has_turn then
        return 0
    end
    local before = redis.call('ZCOUNT', line, '(' .. exact(now - grace), '(' .. exact(place))
    return math.min(portion, free() - before * portion)
end

-- Half a portion more than a turn is good for: that is how a line catches up.
local others = belongs_to_others()
local granted = math.min(wanted, math.ceil(1.5 * portion), room, math.max(by_turn(), free() - others))
granted = math.max(0, math.floor(granted))
if granted > 0 then
    spent = spent + granted * interval
    room = room - granted
    entries[#entries + 1] = {now, granted}
    redis.call('RPUSH', grants, exact(now) .. ' ' .. granted)
end

-- When the window has room for so many messages.
local function roomy(messages)
    local gone = room
    for _, entry in ipairs(entries) do
        if gone >= messages then
            break
        end
        gone = gone + entry[2]
        if gone >= messages then
            return entry[1] + window
        end
    end
    return now
end

-- The next appointment: where there was a turn that came to nothing, among the first; else last.
local function book(rest)
    local turn = math.min(rest, portion) * interval
    local soonest = math.max(spent + turn, roomy(math.min(rest, portion)))
    if granted == 0 and soonest <= now then
        soonest = now + pause
    end
    if has_turn and granted == 0 then
        -- Who was booked again already stays where they are: only who was before them was late.
        if redis.call('SADD', again, who) == 0 then
            return soonest
        end
        kept = math.max(soonest, kept + turn)
        return kept
    end
    redis.call('ZREM', line, who)
    redis.call('SREM', again, who)
    local last = redis.call('ZREVRANGE', line, 0, 0, 'WITHSCORES')
    return math.max(soonest, tonumber(last[2] or 0) + turn)
end

local rest = wanted - granted
local wait = 0
if rest == 0 then
    redis.call('ZREM', line, who)
    redis.call('SREM', again, who)
else
    if place == nil or has_turn then
        place = book(rest)
        redis.call('ZADD', line, exact(place), who)
    end
    local portion_left = math.min(rest, portion)
    if granted == 0 or free() - others < portion_left or room < portion_left then
        wait = math.min(place - now, longest)
        -- Somebody looks in the meantime for what is left by those who died in the line.
        local waiting = redis.call('ZCARD', line)
        if waiting > 1 then
            wait = math.min(wait, waiting * spread)
        end
        wait = math.max(wait, 0)
    end
end

redis.call('HSET', state, 'spent', exact(spent), 'kept', exact(kept))
for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, math.ceil(life / 1000))
end
return {granted, math.ceil(wait)}
