"""Celery settings: broker, queues, routes, beat, reliability. Loaded when the app is first used."""

from celery.schedules import crontab
from kombu import Queue

from tracker.settings import load_settings
from workers.queues import (
    QUEUE_BY_STEP,
    QUEUES,
    ROLLUP_TASK,
    SWEEP_INTERVAL_SECONDS,
    SWEEP_TASK,
    UPKEEP_QUEUE,
    task_name,
)

_settings = load_settings()

broker_url = _settings.broker_url
broker_connection_retry_on_startup = True
broker_connection_timeout = 5
timezone = _settings.timezone
enable_utc = True

# Nothing but JSON comes in or goes out, and no result is kept: the database has them.
accept_content = ["json"]
task_serializer = "json"
task_ignore_result = True
result_expires = None  # so there is nothing to clean up, either

task_queues = [Queue(name) for name in QUEUES]
task_create_missing_queues = False
task_default_queue = QUEUES[0]
task_routes = {task_name(step): {"queue": queue} for step, queue in QUEUE_BY_STEP.items()}
task_routes |= {upkeep: {"queue": UPKEEP_QUEUE} for upkeep in (ROLLUP_TASK, SWEEP_TASK)}

# By the clock on the wall, in our time zone. A night in which it is never or twice 1 am does no
# harm: a rollup counts what is new.
beat_schedule = {
    "rollup": {"task": ROLLUP_TASK, "schedule": crontab(hour=1, minute=0)},
    # One that nobody took before the next one comes is forgotten.
    "sweep": {
        "task": SWEEP_TASK,
        "schedule": SWEEP_INTERVAL_SECONDS,
        "options": {"expires": SWEEP_INTERVAL_SECONDS},
    },
}

# A task is acknowledged when it is done. One whose process was killed is sent again, as often as
# its max_retries allow: steps may be repeated. A worker takes no more than it works on.
task_acks_late = True
task_retry_on_worker_lost = True
worker_prefetch_multiplier = 1
worker_eta_task_limit = 10_000

# A batch's next task is sent while the broker restarts, too: for half a minute, with pauses of
# 0, 0.5, 1, 1.5 and then 2 s. After that the task itself is repeated.
task_publish_retry_policy = {
    "max_retries": 18,
    "interval_start": 0,
    "interval_step": 0.5,
    "interval_max": 2,
}

# A step on the largest sensible batch takes seconds, and ends itself after a minute (see
# workers/steps/limits.py); this is for a process that does not even do that. The broker hands a
# task that was not acknowledged to another worker after visibility_timeout, which must be longer.
task_time_limit = 120
broker_transport_options = {
    "visibility_timeout": 180,
    "health_check_interval": 10,
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
}

# The countdown between two looks for receipts is a second.
worker_timer_precision = 0.1

# What Flower and the live page show.
worker_send_task_events = True
task_send_sent_event = True
