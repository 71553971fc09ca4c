"""The Celery app: `celery -A workers.app worker`.

Its settings are in `celeryconfig.py`; the broker comes from SENDTRACE_BROKER_URL.
"""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from celery.signals import beat_init, celeryd_init
from sqlalchemy.exc import OperationalError

from tracker.errors import NothingRecorded, SendtraceError, UsageError
from tracker.settings import load_settings
from tracker.store.database import connect
from tracker.store.migrate import TRACKER_MIGRATIONS, check_schema
from tracker.store.write_probe import database_file
from workers.celery_app import make_celery_app
from workers.checks.base import all_checks
from workers.plugins import import_own_plugins
from workers.upkeep import task_logs, tracing
from workers.upkeep.broker_url import make_client_url

app = make_celery_app("sendtrace", include=["workers.tasks"], set_as_current=True)

task_logs.connect()


@celeryd_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def exit_if_misconfigured(conf: Any = None, **_: object) -> None:
    """Exit with one clear message, instead of starting a worker that would lose messages."""
    with exiting_on_error():
        check_configuration(conf)
        check_database()
        all_checks()
        tracing.connect()


@celeryd_init.connect  # type: ignore[untyped-decorator]
def load_before_fork(**_: object) -> None:
    """Load gateways and services before the pool is forked, or each process would load them."""
    import_own_plugins()


@beat_init.connect  # type: ignore[untyped-decorator]
def prepare_beat(sender: Any = None, **_: object) -> None:
    """Exit if beat has no broker, and don't report its tasks as sent.

    A sweep every two seconds would hide all others.
    """
    conf = sender.app.conf
    with exiting_on_error():
        check_configuration(conf)
    conf.task_send_sent_event = False


@contextmanager
def exiting_on_error() -> Iterator[None]:
    """Exit with one clear message if an error that a person can mend is raised in the block.

    The exit code is that of the error, as of a command.
    """
    try:
        yield
    except SendtraceError as error:
        print(f"sendtrace: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def check_database() -> None:
    """Raise `SchemaMismatch` for tables that don't suit this version.

    A database that is empty, or can't be reached now, is accepted.
    """
    database = connect(load_settings().resolved_database_url)
    file = database_file(database)
    if file is not None and not file.exists():
        return
    with closing(database), suppress(NothingRecorded, OperationalError):
        check_schema(database, TRACKER_MIGRATIONS, accepts_compatible=True)


def check_configuration(conf: Any) -> None:
    """Raise `UsageError` for Celery settings that would lose or repeat messages."""
    if not conf.broker_url:
        raise UsageError("no broker configured; set SENDTRACE_BROKER_URL=redis://HOST:PORT/0")
    make_client_url(conf.broker_url)
    visibility = conf.broker_transport_options.get("visibility_timeout", 3600)
    if visibility <= conf.task_time_limit:
        raise UsageError(
            f"visibility_timeout ({visibility} s) must be longer than task_time_limit"
            f" ({conf.task_time_limit} s); otherwise the broker repeats tasks that still run"
        )
