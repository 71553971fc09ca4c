"""Flower's settings: `celery -A workers.app flower --conf=workers/flowerconfig.py`.

Variables of the environment such as SENDTRACE_FLOWER_MAX_TASKS override them, and options on
Flower's command line override both.
"""

import os

from flower.command import apply_env_options
from flower.options import default_options as options
from flower.views import BaseHandler

from tracker.errors import UsageError
from tracker.output.logs import configure_logging
from tracker.settings import load_settings
from tracker.system.private_files import keep_files_private
from workers.app import exiting_on_error
from workers.queues import QUEUES

PREFIX = "SENDTRACE_FLOWER_"

with exiting_on_error():
    _settings = load_settings()
    keep_files_private()
    _settings.prepare_home()
    if not _settings.broker_url:
        raise UsageError("no broker configured; set SENDTRACE_BROKER_URL=redis://HOST:PORT/0")
    _settings.check_flower_address(options.address or _settings.flower_address)

options.address = _settings.flower_address
if _settings.flower_auth is not None:
    options.basic_auth = _settings.flower_auth.get_secret_value().split(",")

options.logging = "none"  # instead of Tornado's own format
configure_logging(_settings)

# Keep the tasks over a restart; each takes about 2 KB of memory. They are saved only when Flower
# ends: saving 100,000 tasks takes seconds, in which Flower answers nobody.
options.persistent = True
options.db = str(_settings.home.absolute() / "flower")
options.state_save_interval = 0
options.max_tasks = 100_000

# The arguments and times show the way of a batch.
options.tasks_columns = "name,kwargs,state,worker,received,started,runtime,retries,uuid"

# Milliseconds. A worker answers between two tasks, and a task on a large batch takes a while.
options.inspect_timeout = 2_000.0

# Flower reads variables without our prefix. Its own option `auth` is another one than ours.
# Kubernetes sets such variables, too, if it has a service that is named sendtrace-flower.
for _name, _value in [*os.environ.items()]:
    is_option = _name.startswith(PREFIX) and _name not in (f"{PREFIX}AUTH", f"{PREFIX}AUTH_FILE")
    if is_option and _value and not _value.startswith(("tcp://", "udp://")):
        os.environ[f"FLOWER_{_name.removeprefix(PREFIX)}"] = _value
apply_env_options()

# Flower would list only queues of workers that answered at its start, in alphabetical order.
BaseHandler.get_active_queue_names = lambda _: list(QUEUES)
