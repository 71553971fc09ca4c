"""The Celery app: `celery -A workers.app worker`.

Its settings are in `celeryconfig.py`; the broker comes from SENDTRACE_BROKER_URL.
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


@celeryd_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def exit_if_misconfigured(conf: Any = None, **_: object) -> None:
    """Exit with one clear message, instead of starting a worker that would lose messages."""
    try:
        check_configuration(conf)
        all_checks()
    except SendtraceError as error:
        raise SystemExit(f"sendtrace: {error}") from None


@beat_init.connect  # type: ignore[untyped-decorator]
def disable_sent_events(sender: Any = None, **_: object) -> None:
    """Don't report beat's tasks as sent: a sweep every two seconds would hide all others."""
    sender.app.conf.task_send_sent_event = False


class _SweepLogFilter(logging.Filter):
    """A filter that drops the log lines of sweeps that start and succeed."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or SWEEP_TASK not in record.getMessage()


for _name in ("celery.worker.strategy", "celery.app.trace", "celery.beat"):
    logging.getLogger(_name).addFilter(_SweepLogFilter())


def check_configuration(conf: Any) -> None:
    """Raise `UsageError` for Celery settings that would lose or repeat messages."""
    if not conf.broker_url:
        raise UsageError("no broker configured; set SENDTRACE_BROKER_URL=redis://HOST:PORT/0")
    visibility = conf.broker_transport_options.get("visibility_timeout", 3600)
    if visibility <= conf.task_time_limit:
        raise UsageError(
            f"visibility_timeout ({visibility} s) must be longer than task_time_limit"
            f" ({conf.task_time_limit} s); otherwise the broker repeats tasks that still run"
        )
