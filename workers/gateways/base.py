"""What a gateway is to the workers: something that takes messages over, and later says what became
of them. Which one a campaign uses is an entry of the group ``sendtrace.gateways``.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from importlib.metadata import entry_points
from typing import Generic, NamedTuple, Protocol, TypeVar

from tracker.clock import Instant
from tracker.errors import SendtraceError, UsageError
from tracker.record.catalog import Batch, Campaign
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import Receipt
from tracker.status import Channel
from tracker.store.database import Database

GATEWAYS_GROUP = "sendtrace.gateways"


class GatewayUnavailable(SendtraceError):
    """The gateway can't be reached for now; what was submitted may be submitted again."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Messages of one campaign on the same attempt, and where each is to go.

    ``recipients`` are email addresses or E.164 numbers, in the order of ``numbers``. Campaign,
    number and attempt together are the idempotency key: a gateway takes each over once.
    """

    campaign: Campaign
    attempt: int
    numbers: Sequence[int]
    recipients: Sequence[str]

    def first(self, most: int) -> "Submission":
        """As much of it as ``most`` messages are."""
        if len(self.numbers) <= most:
            return self
        return replace(self, numbers=self.numbers[:most], recipients=self.recipients[:most])

    def without(self, numbers: Collection[int]) -> "Submission":
        """The rest of it."""
        left = [
            (number, recipient)
            for number, recipient in zip(self.numbers, self.recipients, strict=True)
            if number not in numbers
        ]
        return replace(
            self,
            numbers=[number for number, _ in left],
            recipients=[recipient for _, recipient in left],
        )


@dataclass(frozen=True)
class SubmissionResult:
    """What a gateway did with a submission.

    ``accepted`` are the numbers that it has accepted, by the moment at which it first did;
    ``receipts`` what it can say of them at once. What it did not accept it refused for now: that
    may be offered again after ``delay``, which is real time.
    """

    accepted: Mapping[Instant, Sequence[int]]
    receipts: Sequence[Receipt] = ()
    delay: timedelta = timedelta()


T = TypeVar("T")


@dataclass(frozen=True)
class PollResult(Generic[T]):
    """What a gateway has to tell by now, and from when on there is more; None is never."""

    items: Sequence[T]
    again: Instant | None = None


class DeliveredMessages(NamedTuple):
    """Messages that were delivered, and when each was."""

    numbers: Sequence[int]
    at: Sequence[Instant]


class Gateway(Protocol):
    """Takes messages over for delivery. All its methods raise :exc:`GatewayUnavailable`."""

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        """Offer messages to the gateway."""
        ...

    def receipts(
        self, batch: Batch, awaited: Mapping[int, Sequence[int]], now: Instant
    ) -> PollResult[Receipt]:
        """What the gateway has to say by ``now`` of a batch.

        ``awaited`` are the numbers whose outcome is not known, by their attempt. What is said of
        others of the batch may be said again each time.
        """
        ...

    def engagement(
        self, batch: Batch, delivered: DeliveredMessages, since: Instant, now: Instant
    ) -> PollResult[EngagementEvent]:
        """What recipients of a batch did with delivered messages, from ``since`` to ``now``.

        Asked only of campaigns that track engagement.
        """
        ...


GatewayFactory = Callable[[str, Database], Gateway]
"""Makes a gateway from its settings, as they are recorded, and the database.

It may say what it is for: ``network``, whether it reaches people outside, which is assumed where it
does not say; and ``channels``, which else are all.
"""


def find_gateway_kinds() -> list[str]:
    """The kinds of gateways that there are."""
    return sorted(entry_points(group=GATEWAYS_GROUP).names)


@cache
def factory_of(kind: str) -> GatewayFactory:
    """The installed gateway called ``kind``; :exc:`UsageError` if there is none."""
    if kind not in find_gateway_kinds():
        known = ", ".join(find_gateway_kinds()) or "none"
        raise UsageError(f"there is no gateway of kind {kind!r}; installed: {known}")
    factory: GatewayFactory = entry_points(group=GATEWAYS_GROUP)[kind].load()
    return factory


def can_reach_people(kind: str) -> bool:
    """Whether a gateway sends to people outside."""
    return bool(getattr(factory_of(kind), "network", True))


def supported_channels(kind: str) -> frozenset[Channel]:
    """The channels that a gateway serves."""
    return frozenset(getattr(factory_of(kind), "channels", Channel))
