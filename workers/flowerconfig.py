"""Flower's settings: `celery -A workers.app flower --conf=workers/flowerconfig.py`.

Flower reads the names that this module defines. Variables of the environment such as
SENDTRACE_FLOWER_MAX_TASKS override them, and options on Flower's command line override both.
"""

import os

from flower.options import default_options as options
from flower.views import BaseHandler

from tracker.loopback import is_loopback
from tracker.settings import load_settings
from workers.queues import QUEUES

_PREFIX = "SENDTRACE_FLOWER_"

_LIVE_PAGE_VARIABLE = f"{_PREFIX}URL"
"""The only such variable that isn't Flower's: the live page reads it."""

_settings = load_settings()
_settings.prepare_home()
if not _settings.broker_url:
    raise SystemExit("flower: no broker configured; set SENDTRACE_BROKER_URL=redis://HOST:PORT/0")

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

# Kubernetes sets such variables, too, if it has a service that is named sendtrace-flower.
for _name, _value in [*os.environ.items()]:
    if not _name.startswith(_PREFIX) or _name == _LIVE_PAGE_VARIABLE:
        continue
    if not _value or _value.startswith(("tcp://", "udp://")):
        continue
    _option = _name.removeprefix(_PREFIX)
    if _option == "AUTH":
        _option = "BASIC_AUTH"
    if _option.lower() in options:
        globals()[_option.lower()] = _value
    else:
        os.environ[f"FLOWER_{_option}"] = _value  # Flower reads a few settings from there

_exposed_address = options.address or address
if not (globals().get("basic_auth") or is_loopback(_exposed_address)):
    raise SystemExit(
        f"flower: --address={_exposed_address}: reachable without a password;"
        " set SENDTRACE_FLOWER_AUTH=user:password"
    )

# Flower would list only queues of workers that answered at its start, in alphabetical order.
BaseHandler.get_active_queue_names = lambda _: list(QUEUES)
