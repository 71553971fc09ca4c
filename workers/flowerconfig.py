"""Flower's settings: `celery -A workers.app flower --conf=workers/flowerconfig.py`.

Flower reads the names that this module defines. Options on its command line override them.
"""

import os

from flower.views import BaseHandler
from tornado.options import options

from tracker.settings import load_settings
from workers.queues import QUEUES

_settings = load_settings()
_settings.prepare_home()

_credentials = os.environ.get("SENDTRACE_FLOWER_AUTH", "")
"""`user:password`, several separated by commas."""

if _credentials:
    basic_auth = _credentials.split(",")
elif options.address not in ("", "127.0.0.1", "::1", "localhost"):
    raise SystemExit(
        f"flower: --address={options.address}: reachable without a password;"
        " set SENDTRACE_FLOWER_AUTH=user:password"
    )

address = "127.0.0.1"

# Keep the tasks over a restart; each takes about 2 KB of memory.
persistent = True
db = str(_settings.home.absolute() / "flower")
state_save_interval = 10_000
max_tasks = 100_000

# The arguments and times show the way of a batch.
tasks_columns = "name,kwargs,state,worker,received,started,runtime,retries,uuid"

# Milliseconds. A worker answers between two tasks, and a task on a large batch takes a while.
inspect_timeout = 2_000.0

# Flower would list only queues of workers that answered at its start, in alphabetical order.
BaseHandler.get_active_queue_names = lambda _: list(QUEUES)
