"""Define what the workers expect of a gateway, and load the installed kinds of gateways.

A gateway accepts messages for delivery and reports outcomes later, as receipts. A campaign names
its kind of gateway, which is an entry point of the group `sendtrace.gateways`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from tracker.clock import Instant
from tracker.errors import SendtraceError, UsageError
from tracker.record.catalog import Batch, Campaign
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import Receipt
from tracker.status import Channel, Status
from tracker.store.columns import Numbers, as_list
from tracker.store.database import Database
from workers.plugins import PluginGroup, load_plugin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_REFUSALS = 3
"""Messages in a row that a gateway may refuse because of the sender before it counts as
unavailable."""

BOUNCED = frozenset({Status.HARD_BOUNCED, Status.SOFT_BOUNCED})


class GatewayUnavailable(SendtraceError):
    """A gateway can't be reached for now; the worker repeats the call later."""


REFUSES_MESSAGES = "refuses messages: "
"""The beginning of the error of a gateway that answers, and accepts nothing."""

UNAVAILABLE_WARNING = "gateway unavailable: "
"""The beginning of the warning in a worker's log that names the cause."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Messages of one campaign that are submitted together, all on the same attempt.

    Campaign, number and attempt together are the idempotency key: a gateway that honors it accepts
    each message once per attempt.

    Attributes:
        attempt: the attempt, from 1.
        recipients: email addresses or E.164 numbers, in the order of `numbers`.
        accept_at: past instants at which the gateway's rate allows the acceptance of the messages,
            in the order of `numbers`; None for now. Only for a gateway that keeps to them.
    """

    campaign: Campaign
    attempt: int
    numbers: Sequence[int]
    recipients: Sequence[str]
    accept_at: "NDArray[np.int64] | None" = None

    def split(self, place: int) -> tuple["Submission", "Submission"]:
        """Return a submission of the first `place` messages, and one of the others."""
        return (
            replace(self, numbers=self.numbers[:place], recipients=self.recipients[:place]),
            replace(self, numbers=self.numbers[place:], recipients=self.recipients[place:]),
        )

    def rotated(self, place: int) -> "Submission":
        """Return a submission of the same messages that starts with the one at a place."""
        before, after = self.split(place)
        return replace(
            self,
            numbers=[*after.numbers, *before.numbers],
            recipients=[*after.recipients, *before.recipients],
        )

    def without(self, numbers: Collection[int]) -> "Submission":
        """Return a submission of the messages whose numbers are not in `numbers`."""
        remaining = [
            (number, recipient)
            for number, recipient in zip(self.numbers, self.recipients, strict=True)
            if number not in numbers
        ]
        return replace(
            self,
            numbers=[number for number, _ in remaining],
            recipients=[recipient for _, recipient in remaining],
        )


class Refusal(NamedTuple):
    """A gateway's reply that refuses the sender, not the recipient, such as `relaying denied`.

    Attributes:
        reply: what the gateway replied.
        is_temporary: whether the reply says that a later try may succeed.
    """

    at: Instant
    reply: str
    is_temporary: bool


class Acceptances(NamedTuple):
    """Accepted messages: their numbers, and when each was first accepted, in that order.

    Attributes:
        at: one instant for all, or one for each of `numbers`.
    """

    numbers: Sequence[int]
    at: "Instant | Numbers"


@dataclass(frozen=True)
class SubmissionResult:
    """A gateway's response to a submission.

    Messages that are not in `accepted` were refused for now; the worker submits them again.
    Messages in `refused` count against the gateway: if it accepts no other message afterwards, it
    is unavailable, and if it does, they soft-bounce.

    Attributes:
        accepted: the accepted messages, as columns or as numbers by the instant at which each was
            first accepted. A gateway that doesn't know the instants gives the numbers only.
        receipts: outcomes that the gateway knows at once.
        delay: real time to wait before refused messages are submitted again.
        refused: replies that refuse the sender, by message number.
        unconfirmed: those of the accepted messages that were handed over, but got no reply.
        failed: errors of the messages that couldn't be made, by number. They are never sent.
    """

    accepted: Acceptances | Mapping[Instant, Sequence[int]] | Sequence[int]
    receipts: Sequence[Receipt] = ()
    delay: timedelta = timedelta()
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    unconfirmed: Collection[int] = ()
    failed: Mapping[int, str] = field(default_factory=dict)

    def last_acceptance(self, returned_at: Instant) -> Instant | None:
        """Return when a message was last accepted that neither bounced nor is unconfirmed."""
        excluded = {receipt.number for receipt in self.receipts if receipt.status in BOUNCED}
        excluded.update(self.unconfirmed)
        numbers, at = self.acceptances(returned_at)
        instants = [at] * len(numbers) if isinstance(at, int) else as_list(at)
        return max(
            (at for number, at in zip(numbers, instants, strict=True) if number not in excluded),
            default=None,
        )

    def acceptances(self, returned_at: Instant) -> Acceptances:
        """Return the accepted messages as columns.

        Without an instant of its own, a message counts as accepted when the call returned.
        """
        if isinstance(self.accepted, Acceptances):
            return self.accepted
        if not isinstance(self.accepted, Mapping):
            return Acceptances(self.accepted, returned_at)
        if len(self.accepted) == 1:
            [(at, numbers)] = self.accepted.items()
            return Acceptances(numbers, at)
        return Acceptances(
            [number for numbers in self.accepted.values() for number in numbers],
            [at for at, numbers in self.accepted.items() for _ in numbers],
        )


T = TypeVar("T")


@dataclass(frozen=True)
class PollResult(Generic[T]):
    """A gateway's response to a poll.

    Attributes:
        next_poll_at: the instant from which it has more to report; None if it expects nothing more.
    """

    items: Sequence[T]
    next_poll_at: Instant | None = None


class DeliveredMessages(NamedTuple):
    """Delivered messages of a batch: their numbers, and the instants of delivery in that order."""

    numbers: Sequence[int]
    delivered_at: Sequence[Instant]


class Gateway(Protocol):
    """A system that accepts messages for delivery. Each method may raise `GatewayUnavailable`."""

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        """Submit messages for delivery."""
        ...

    def receipts(
        self, batch: Batch, awaited: Mapping[int, Sequence[int]], now: Instant
    ) -> PollResult[Receipt]:
        """Poll the receipts of a batch.

        `awaited` has the numbers of the messages without an outcome, by attempt. Receipts of other
        messages may be returned again by each poll.
        """
        ...

    def engagement(
        self, batch: Batch, delivered: DeliveredMessages, since: Instant, now: Instant
    ) -> PollResult[EngagementEvent]:
        """Poll the engagement of recipients between `since` and `now`.

        The workers poll only campaigns that track engagement.
        """
        ...


@runtime_checkable
class SupportsCheck(Protocol):
    """A gateway that can test its connection before a run."""

    def check(self) -> None:
        """Raise `GatewayUnavailable` unless the gateway can be used."""
        ...


GatewayFactory = Callable[[str, Database], Gateway]
"""Makes a gateway from its recorded settings (JSON text) and the database."""


@runtime_checkable
class DeclaresNetwork(Protocol):
    """A gateway factory that states whether its gateway reaches people outside."""

    network: bool


@runtime_checkable
class KeepsToInstants(Protocol):
    """A gateway factory that states whether its gateway keeps to `Submission.accept_at`.

    A simulated gateway can. One that sends messages accepts each when it sends it.
    """

    keeps_to_instants: bool


@runtime_checkable
class DeclaresChannels(Protocol):
    """A gateway factory that states which channels its gateway serves."""

    channels: Collection[Channel]


@dataclass(frozen=True, kw_only=True)
class GatewayKind:
    """An installed kind of gateway.

    Attributes:
        reaches_people: whether it sends to people outside; True unless the factory has an
            attribute `network` that is False.
        channels: the channels that it serves; all unless the factory has an attribute `channels`.
        keeps_to_instants: whether it accepts each message at the instant that its rate allows.
    """

    factory: GatewayFactory
    reaches_people: bool
    channels: frozenset[Channel]
    keeps_to_instants: bool


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
        reaches_people=not isinstance(factory, DeclaresNetwork) or bool(factory.network),
        channels=served,
        keeps_to_instants=isinstance(factory, KeepsToInstants) and bool(factory.keeps_to_instants),
    )
