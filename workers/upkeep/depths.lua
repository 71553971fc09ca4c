-- How many tasks are in each queue: ready to be taken, and held by workers.
--
-- KEYS[1]    kombu's hash of tasks that are not acknowledged: one field a task, whose value is the
--            JSON of [message, exchange, routing key]. Our queues are bound by their own names.
-- KEYS[2..]  the queues, which are lists.
-- Returns    two numbers a queue, in the order of KEYS: ready, unacknowledged.

local held = {}
for _, task in ipairs(redis.call('HVALS', KEYS[1])) do
  local queue = string.match(task, '"([^"]*)"%]$')
  if queue then
    held[queue] = (held[queue] or 0) + 1
  end
end

local depths = {}
for place = 2, #KEYS do
  table.insert(depths, redis.call('LLEN', KEYS[place]))
  table.insert(depths, held[KEYS[place]] or 0)
end
return depths
