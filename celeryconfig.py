"""Celery settings: broker, queues, routes, beat and reliability."""

from celery.schedules import crontab
from kombu import Exchange, Queue

from tracker.settings import load_settings
from workers.queues import (
    PRUNE_TASK,
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

# JSON only. No results are stored: the database has them.
accept_content = ["json"]
task_serializer = "json"
task_ignore_result = True
result_expires = None  # no clean-up task is needed

# Celery's defaults would bind every queue to the exchange and the key of the first one.
task_queues = [Queue(name, Exchange(name), routing_key=name) for name in QUEUES]
task_create_missing_queues = False
task_default_queue = QUEUES[0]
task_routes = {task_name(step): {"queue": queue} for step, queue in QUEUE_BY_STEP.items()}
task_routes |= {upkeep: {"queue": UPKEEP_QUEUE} for upkeep in (ROLLUP_TASK, SWEEP_TASK, PRUNE_TASK)}

# Tasks of the layer above the workers, whose tables and folders they delete.
imports = ["simulator.retention.task"]

# Local time. A night without 1 am, or with two, does no harm: a rollup counts what is new.
beat_schedule = {
    "rollup": {"task": ROLLUP_TASK, "schedule": crontab(hour=1, minute=0)},
    # A sweep that no worker has taken when the next one is due expires.
    "sweep": {
        "task": SWEEP_TASK,
        "schedule": SWEEP_INTERVAL_SECONDS,
        "options": {"expires": SWEEP_INTERVAL_SECONDS},
    },
}
if _settings.prune_older_than:
    beat_schedule["prune"] = {"task": PRUNE_TASK, "schedule": crontab(hour=2, minute=0)}

# A task is acknowledged when it is done. If its process is killed, it is retried up to its
# max_retries: steps may be repeated. A worker reserves no task that it doesn't run yet.
task_acks_late = True
task_retry_on_worker_lost = True
worker_prefetch_multiplier = 1
worker_eta_task_limit = 10_000

# Publishing the next task survives a restart of the broker: it is retried for half a minute, after
# 0, 0.5, 1, 1.5 and then every 2 s. If that fails, the sweep re-queues the batch.
task_publish_retry_policy = {
    "max_retries": 18,
    "interval_start": 0,
    "interval_step": 0.5,
    "interval_max": 2,
}

# A step on a large batch takes seconds, and workers/steps/limits.py stops it after a minute, or two
# while a gateway waits for the reply to a message. This limit is for a process that can't even be
# stopped so. After visibility_timeout the broker gives an unacknowledged task to another worker, so
# that must be longer.
task_time_limit = 150
broker_transport_options = {
    "visibility_timeout": 180,
    "health_check_interval": 10,
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
}

# Seconds; polls for receipts are a second apart.
worker_timer_precision = 0.1

# Flower and the live page show these events.
worker_send_task_events = True
task_send_sent_event = True
