"""What a gateway is to the workers: something that takes messages over, and later says what became
of them. Which one a campaign uses is an entry of the group ``sendtrace.gateways``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import NamedTuple, Protocol

from tracker.catalog import Campaign
from tracker.clock import Instant
from tracker.database import Database
from tracker.engagement import Event
from tracker.errors import SendtraceError, UsageError
from tracker.status import Status

GROUP = "sendtrace.gateways"


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


class Receipt(NamedTuple):
    """What a gateway says of a message: at ``at``, its attempt ended with ``status``."""

    number: int
    attempt: int
    status: Status
    at: Instant


class Gateway(Protocol):
    """Takes messages over for delivery."""

    def submit(self, submission: Submission, now: Instant) -> Mapping[Instant, Sequence[int]]:
        """Numbers that the gateway has accepted, by the moment at which it first did.

        Raises :exc:`GatewayUnavailable`.
        """
        ...

    def receipts(
        self, campaign: Campaign, numbers: Sequence[int], now: Instant
    ) -> Sequence[Receipt]:
        """What the gateway has to say by ``now`` of the messages ``numbers``.

        Raises :exc:`GatewayUnavailable`.
        """
        ...

    def engagement(
        self, campaign: Campaign, numbers: Sequence[int], now: Instant
    ) -> Sequence[Event]:
        """What the recipients of the delivered messages ``numbers`` did with them by ``now``.

        Asked only of campaigns that track engagement. Raises :exc:`GatewayUnavailable`.
        """
        ...


GatewayFactory = Callable[[str, Database], Gateway]
"""Makes a gateway from its settings, as they are recorded, and the database."""


@cache
def factory_of(kind: str) -> GatewayFactory:
    """The installed gateway called ``kind``; :exc:`UsageError` if there is none."""
    found = entry_points(group=GROUP)
    if kind not in found.names:
        known = ", ".join(sorted(found.names)) or "none"
        raise UsageError(f"there is no gateway of kind {kind!r}; installed: {known}")
    factory: GatewayFactory = found[kind].load()
    return factory
