-- Grant a batch permission to submit messages to a gateway, within the gateway's rate.
--
-- A grant covers a stretch of the gateway's time: one `interval` for each message. Grants never
-- overlap.
--
-- KEYS[1]  hash   granted_until: end of the gateway's time that has been granted
--                 rebooked_until: end of the time for which batches that came too early are rebooked
-- KEYS[2]  zset   queue: the waiting batches, by the instant of their turn
-- KEYS[3]  list   grants of the last window, oldest first, each "instant messages"
-- KEYS[4]  set    rebooked: the waiting batches whose turn was rebooked
-- KEYS[5]  hash   shares: the messages that the turn of each waiting batch may submit
--
-- ARGV[1]  requester: the batch
-- ARGV[2]  wanted: messages that it wants to submit
-- ARGV[3]  interval: time that the gateway needs for a message
-- ARGV[4]  turn: most messages that one turn may submit
-- ARGV[5]  window: the time in which at most ARGV[6] messages may be granted
-- ARGV[6]  limit
-- ARGV[7]  catch_up: unused time that is made up for at most, if batches were waiting
-- ARGV[8]  grace: how long the share of a turn is kept for a batch that is late
-- ARGV[9]  retry_delay: shortest time between two requests of a batch that got nothing
-- ARGV[10] probe_interval: time between two requests of all waiting batches together
-- ARGV[11] max_delay: longest delay of a batch
-- ARGV[12] ttl: time without a request after which the state expires
-- ARGV[13] head_start: time that is granted at once if there is no state
-- ARGV[14] max_grant: most messages that are granted together
-- ARGV[15] waited: how long the messages have been waiting; no grant begins before that
--
-- Returns the number of messages granted, the time to wait before the next request, and the instant
-- at which the grant begins. Instants and times are in microseconds. Instants are read from the
-- broker's clock, the same for all workers.

local state, queue, grants, rebooked, shares = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local requester = ARGV[1]
local argument = {}
for index = 2, 15 do
    argument[index] = tonumber(ARGV[index])
end
local wanted, interval, turn = argument[2], argument[3], argument[4]
local window, limit, catch_up = argument[5], argument[6], argument[7]
local grace, retry_delay, probe_interval = argument[8], argument[9], argument[10]
local max_delay, ttl = argument[11], argument[12]
local head_start, max_grant, waited = argument[13], argument[14], argument[15]

-- tostring() keeps 14 digits, and an instant has 16.
local function exact(number)
    return string.format('%.3f', number)
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- The broker's clock may be set back. A step of up to one window is waited out; after a larger one
-- the state starts anew.
local latest_grant = redis.call('LINDEX', grants, -1)
if latest_grant then
    local latest = tonumber(string.match(latest_grant, '^%S+'))
    if latest > now + window then
        redis.call('DEL', unpack(KEYS))
    else
        now = math.max(now, latest)
    end
end

-- Count the messages that were granted in the last window, and forget older grants.
local window_grants = {}
local window_messages = 0
for _, entry in ipairs(redis.call('LRANGE', grants, 0, -1)) do
    local instant, messages = string.match(entry, '^(%S+) (%S+)$')
    if tonumber(instant) + window > now then
        window_grants[#window_grants + 1] = {tonumber(instant), tonumber(messages)}
        window_messages = window_messages + tonumber(messages)
    else
        redis.call('LPOP', grants)
    end
end
local room = math.max(0, limit - window_messages)

local function leave_queue(batch)
    redis.call('ZREM', queue, batch)
    redis.call('SREM', rebooked, batch)
    redis.call('HDEL', shares, batch)
end

-- Batches whose turn is long past won't come any more.
for _, batch in ipairs(redis.call('ZRANGEBYSCORE', queue, '-inf', exact(now - max_delay))) do
    leave_queue(batch)
end
local turn_at = tonumber(redis.call('ZSCORE', queue, requester) or nil)
local has_turn = turn_at ~= nil and turn_at <= now

-- Unused time is made up for only if batches were waiting, so a pause saves nothing up.
local is_contended = redis.call('ZCARD', queue) > 0
local saved = is_contended and math.max(catch_up, 2 * turn * interval) or turn * interval
local granted_until, rebooked_until =
    unpack(redis.call('HMGET', state, 'granted_until', 'rebooked_until'))
local known_until = tonumber(granted_until) or now - head_start
granted_until = math.max(known_until, now - math.min(saved, waited))
rebooked_until = tonumber(rebooked_until or 0)

-- Messages, with fractions, that the ungranted time allows. Rounding may have cost half a microsecond.
local function free()
    return math.max(0, (now - granted_until + 0.5) / interval)
end

local function share_of(batch)
    return tonumber(redis.call('HGET', shares, batch) or 0)
end

-- Messages that belong to other batches whose turn is due up to an instant, at most by the grace.
local function belongs_to_due(instant)
    local messages = 0
    local due = redis.call('ZRANGEBYSCORE', queue, '(' .. exact(now - grace), instant)
    for _, batch in ipairs(due) do
        if batch ~= requester then
            messages = messages + share_of(batch)
        end
    end
    return messages
end

-- Messages that belong to other batches: to those that are due and late, and to the next one.
local function belongs_to_others()
    local coming = redis.call(
        'ZRANGEBYSCORE', queue, '(' .. exact(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 2)
    local first = coming[1] == requester and 3 or 1
    local next_batch = 0
    if coming[first] then
        local remaining = (tonumber(coming[first + 1]) - now) / interval
        next_batch = math.max(0, share_of(coming[first]) - remaining)
    end
    return belongs_to_due(exact(now)) + next_batch
end

-- Messages that the requester's turn allows, after batches whose turn was earlier.
local function by_turn()
    if not has_turn then
        return 0
    end
    return math.min(turn, free() - belongs_to_due('(' .. exact(turn_at)))
end

local others = belongs_to_others()
local granted = math.min(wanted, max_grant, room, math.max(by_turn(), free() - others))
granted = math.max(0, math.floor(granted))
local granted_from = granted_until
if granted > 0 then
    granted_until = granted_until + granted * interval
    room = room - granted
    window_grants[#window_grants + 1] = {now, granted}
    redis.call('RPUSH', grants, exact(now) .. ' ' .. granted)
end

-- Return the instant at which the window has room for a number of messages.
local function room_at(messages)
    local available = room
    for _, entry in ipairs(window_grants) do
        if available >= messages then
            break
        end
        available = available + entry[2]
        if available >= messages then
            return entry[1] + window
        end
    end
    return now
end

-- Return the instant of the requester's next turn. A turn that got nothing is rebooked among the
-- first; any other goes to the end of the queue.
local function book(share)
    local duration = share * interval
    local soonest = math.max(granted_until + duration, room_at(share))
    if granted == 0 and soonest <= now then
        soonest = now + retry_delay
    end
    if has_turn and granted == 0 then
        -- A batch that was rebooked before keeps its place: only batches before it were late.
        if redis.call('SADD', rebooked, requester) == 0 then
            return soonest
        end
        rebooked_until = math.max(soonest, rebooked_until + duration)
        return rebooked_until
    end
    leave_queue(requester)
    local last = redis.call('ZREVRANGE', queue, 0, 0, 'WITHSCORES')
    return math.max(soonest, tonumber(last[2] or 0) + duration)
end

local rest = wanted - granted
local delay = 0
if rest == 0 then
    leave_queue(requester)
else
    local share = math.min(rest, turn)
    if turn_at == nil or has_turn then
        turn_at = book(share)
        redis.call('ZADD', queue, exact(turn_at), requester)
    end
    redis.call('HSET', shares, requester, share)
    if granted == 0 or free() - others < share or room < share then
        delay = math.min(turn_at - now, max_delay)
        -- Waiting batches take turns to look for the share of batches whose tasks have died.
        local waiting = redis.call('ZCARD', queue)
        if waiting > 1 then
            delay = math.min(delay, waiting * probe_interval)
        end
        delay = math.max(delay, 0)
    end
end

if granted == 0 then
    -- Time before these messages were ready may still be granted to others.
    granted_until = known_until
end
redis.call('HSET', state, 'granted_until', exact(granted_until), 'rebooked_until', exact(rebooked_until))
for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, math.ceil(ttl / 1000))
end
return {granted, math.ceil(delay), exact(granted_from)}
