"""What a gateway is to the workers: something that takes messages over, and later says what became
of them. Which one a campaign uses is an entry of the group ``sendtrace.gateways``.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from tracker.clock import Instant
from tracker.errors import SendtraceError, UsageError
from tracker.record.catalog import Batch, Campaign
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import Receipt
from tracker.status import Channel
from tracker.store.database import Database
from workers.plugins import PluginGroup, load_plugin


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
"""Makes a gateway from its recorded settings (JSON text) and the database."""


@runtime_checkable
class DeclaresNetwork(Protocol):
    """A gateway factory that states whether its gateway reaches people outside."""

    network: bool


@runtime_checkable
class DeclaresChannels(Protocol):
    """A gateway factory that states which channels its gateway serves."""

    channels: Collection[Channel]


@dataclass(frozen=True, kw_only=True)
class GatewayKind:
    """An installed kind of gateway.

    Attributes:
        factory: makes a gateway of this kind.
        reaches_people: whether it sends to people outside; True unless the factory has an
            attribute `network` that is False.
        channels: the channels that it serves; all unless the factory has an attribute `channels`.
    """

    factory: GatewayFactory
    reaches_people: bool
    channels: frozenset[Channel]


@cache
def load_gateway_kind(name: str) -> GatewayKind:
    """Return the installed gateway called `name`; raise `UsageError` if it can't be loaded."""
    factory = load_plugin(PluginGroup.GATEWAYS, name, parameters=("settings", "database"))
    channels = factory.channels if isinstance(factory, DeclaresChannels) else Channel
    try:
        served = frozenset(Channel(channel) for channel in channels)
    except (TypeError, ValueError):
        expected = ", ".join(Channel)
        raise UsageError(
            f"gateway {name}: channels: got {channels!r}; expected a set of {expected}"
        ) from None
    return GatewayKind(
        factory=factory,
        reaches_people=not isinstance(factory, DeclaresNetwork) or factory.network,
        channels=served,
    )
