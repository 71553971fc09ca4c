"""A gateway whose calls are counted."""

from collections.abc import Mapping, Sequence

from tracker.clock import Instant
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent
from tracker.record.monitoring.counters import CounterName, Counters
from tracker.record.receipts import Receipt
from workers.gateways.base import (
    DeliveredMessages,
    Gateway,
    PollResult,
    Submission,
    SubmissionResult,
)


class CountedGateway:
    """A gateway that counts the calls of another one, and the messages that it refuses.

    The next entry of this process records the counts.
    """

    def __init__(self, gateway: Gateway, kind: str, counters: Counters) -> None:
        self._gateway, self._kind, self._counters = gateway, kind, counters

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        """Submit messages for delivery."""
        self._count_call("submit")
        result = self._gateway.submit(submission, now)
        self._counters.add(CounterName.GATEWAY_REFUSALS, self._kind, len(result.refused))
        return result

    def receipts(
        self, batch: Batch, awaited: Mapping[int, Sequence[int]], now: Instant
    ) -> PollResult[Receipt]:
        """Poll the receipts of a batch."""
        self._count_call("receipts")
        return self._gateway.receipts(batch, awaited, now)

    def engagement(
        self, batch: Batch, delivered: DeliveredMessages, since: Instant, now: Instant
    ) -> PollResult[EngagementEvent]:
        """Poll the engagement of recipients."""
        self._count_call("engagement")
        return self._gateway.engagement(batch, delivered, since, now)

    def _count_call(self, method: str) -> None:
        self._counters.add(CounterName.GATEWAY_CALLS, f"{self._kind} {method}")
