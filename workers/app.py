"""The Celery app: ``celery -A workers.app worker``.

Its settings are in ``celeryconfig.py``; the broker comes from ``SENDTRACE_BROKER_URL``.
"""

import logging
from typing import Any

from celery import Celery
from celery.signals import beat_init, celeryd_init

from tracker.errors import SendtraceError, UsageError
from workers.checks.base import all_checks
from workers.queues import SWEEP_TASK

logger = logging.getLogger(__name__)

app = Celery("sendtrace", include=["workers.tasks"])
app.config_from_object("celeryconfig")


@celeryd_init.connect  # type: ignore[untyped-decorator]  # Celery comes without types
def exit_if_misconfigured(conf: Any = None, **_: object) -> None:
    """Stop a worker before it starts, with one clear message, where it could only do harm."""
    try:
        check_configuration(conf)
        all_checks()
    except SendtraceError as error:
        raise SystemExit(f"sendtrace: {error}") from None


@beat_init.connect  # type: ignore[untyped-decorator]
def disable_sent_events(sender: Any = None, **_: object) -> None:
    """Have beat's tasks, which are a sweep every two seconds, not shown as sent."""
    sender.app.conf.task_send_sent_event = False


class _SweepLogFilter(logging.Filter):
    """Leaves out that a sweep came and went; what it finds is told."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or SWEEP_TASK not in record.getMessage()


for _name in ("celery.worker.strategy", "celery.app.trace", "celery.beat"):
    logging.getLogger(_name).addFilter(_SweepLogFilter())


def check_configuration(conf: Any) -> None:
    """Raise :exc:`UsageError` for Celery settings with which messages would be lost or repeated."""
    if not conf.broker_url:
        raise UsageError("no broker is configured; set SENDTRACE_BROKER_URL=redis://HOST:PORT/0")
    visibility = conf.broker_transport_options.get("visibility_timeout", 3600)
    if visibility <= conf.task_time_limit:
        raise UsageError(
            f"visibility_timeout ({visibility} s) must be longer than task_time_limit"
            f" ({conf.task_time_limit} s): else the broker repeats tasks that still run"
        )
