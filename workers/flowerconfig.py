"""Flower's settings: ``celery -A workers.app flower --conf=workers/flowerconfig.py``.

Flower reads the names that this module defines. What was said on its command line wins.
"""

import os

from flower.views import BaseHandler
from tornado.options import options

from tracker.settings import load_settings
from workers.queues import QUEUES

_settings = load_settings()
_settings.prepare_home()

_credentials = os.environ.get("SENDTRACE_FLOWER_AUTH", "")
"""``user:password``; several are parted by commas."""

if _credentials:
    basic_auth = _credentials.split(",")
elif options.address not in ("", "127.0.0.1", "::1", "localhost"):
    raise SystemExit(
        f"flower: --address={options.address}: others could look, and nobody would ask who they"
        " are; set SENDTRACE_FLOWER_AUTH=user:password"
    )

address = "127.0.0.1"

# What was seen is still there after a restart; a task takes some 2 KB of memory.
persistent = True
db = str(_settings.home.absolute() / "flower")
state_save_interval = 10_000
max_tasks = 100_000

# A batch's way is in its arguments and times.
tasks_columns = "name,kwargs,state,worker,received,started,runtime,retries,uuid"

# Workers with large batches answer between two tasks.
inspect_timeout = 2_000.0

# Flower would show the queues of those workers that answered when it was started, by the alphabet.
BaseHandler.get_active_queue_names = lambda _: list(QUEUES)
