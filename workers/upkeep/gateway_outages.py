"""Learn from the events of tasks which gateways are unavailable, for which campaigns."""

import ast
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from tracker.monitoring import GatewayOutage
from workers.gateways.base import REFUSES_MESSAGES, GatewayUnavailable

FORGOTTEN_AFTER_SECONDS = 180.0
"""Seconds after its last failure at which a gateway no longer counts as unavailable. Its tasks are
retried every 30 s at least, and may wait in a queue before."""

SAME_OUTAGE_SECONDS = 60.0
"""Seconds between two failures that belong to one outage, although a task succeeded between them:
a batch without messages for the gateway succeeds."""

_EXCEPTION_PREFIX = f"{GatewayUnavailable.__name__}("


@dataclass(kw_only=True)
class _Outage:
    error: str
    since: float
    failed_at: float
    is_over: bool = False


class GatewayOutages:
    """The outages by campaign and task, from the events of their tasks. Not thread-safe."""

    def __init__(self) -> None:
        self._outages: dict[tuple[int, str], _Outage] = {}

    def add_failure(self, campaign: int, task: str, exception: str, at: float) -> None:
        """Note a task's exception, if it says that a gateway is unavailable.

        Args:
            task: the task's name.
            exception: the exception as Python represents it.
            at: time of the failure, in seconds since 1970.
        """
        if not exception.startswith(_EXCEPTION_PREFIX):
            return
        error = exception.removeprefix(_EXCEPTION_PREFIX).removesuffix(")")
        with suppress(ValueError, SyntaxError):  # Celery may have cut off a long one
            error = str(ast.literal_eval(error))
        before = self._outages.get((campaign, task))
        is_same = before is not None and (
            not before.is_over or at - before.failed_at < SAME_OUTAGE_SECONDS
        )
        since = before.since if before is not None and is_same else at
        self._outages[campaign, task] = _Outage(error=error, since=since, failed_at=at)

    def add_success(self, campaign: int, task: str) -> None:
        """Note that a task has succeeded."""
        outage = self._outages.get((campaign, task))
        if outage is not None:
            outage.is_over = True

    def list_current(self) -> Sequence[GatewayOutage]:
        """Return the gateways that are unavailable now, one for each campaign."""
        now = time.time()
        for key, outage in list(self._outages.items()):
            if now - outage.failed_at > FORGOTTEN_AFTER_SECONDS:
                del self._outages[key]
        current = {
            campaign: outage
            for (campaign, _), outage in sorted(self._outages.items())
            if not outage.is_over
        }
        return [
            GatewayOutage(
                campaign=campaign,
                error=outage.error,
                since=datetime.fromtimestamp(outage.since, UTC),
                is_refusing=outage.error.startswith(REFUSES_MESSAGES),
            )
            for campaign, outage in current.items()
        ]
