"""What keeps synthetic messages from people: a gateway that reaches them is used only where that is
allowed by name, and never for addresses and numbers that belong to nobody.

Domains of RFC 2606 and RFC 6761; mobile numbers that regulators set aside for fiction: Ofcom
(07700 900000 to 900999), ACMA (0491 570 …), and 555-0100 to 555-0199 of the North American plan.
"""

import re
from collections.abc import Mapping, Sequence

from tracker.clock import Instant
from tracker.errors import UsageError
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import Receipt
from tracker.settings import load_settings
from tracker.status import Channel, Status
from tracker.store.database import Database
from workers.gateways.base import (
    DeliveredMessages,
    Gateway,
    GatewayUnavailable,
    PollResult,
    Submission,
    SubmissionResult,
    load_gateway_kind,
)

RESERVED_TOP_LEVEL_DOMAINS = frozenset({"test", "example", "invalid", "localhost"})
RESERVED_DOMAINS = frozenset({"example.com", "example.net", "example.org"})

_RESERVED_NUMBER = re.compile(
    r"\+447700900\d{3}|\+61491570(006|110|156|157|158|159|313|737)|\+1\d{3}55501\d{2}"
)

RESERVED_RECIPIENT_DETAIL = "reserved for documentation and fiction; not sent"


def is_reserved(channel: Channel, recipient: str) -> bool:
    """Whether a recipient can be nobody's."""
    if channel is Channel.SMS:
        return _RESERVED_NUMBER.fullmatch(recipient) is not None
    labels = recipient.rpartition("@")[2].strip().rstrip(".").lower().split(".")
    return labels[-1] in RESERVED_TOP_LEVEL_DOMAINS or ".".join(labels[-2:]) in RESERVED_DOMAINS


class GuardedGateway:
    """A gateway that never sees what is for nobody: that bounces for good without it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def check(self) -> None:
        """Have the gateway see if it can be used, where it knows how."""
        getattr(self._gateway, "check", lambda: None)()

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        """Offer what is for somebody; say that the rest was accepted, and bounced."""
        channel, attempt = submission.campaign.channel, submission.attempt
        everybody = list(zip(submission.numbers, submission.recipients, strict=True))
        nobodies = [number for number, each in everybody if is_reserved(channel, each)]
        if not nobodies:
            return self._gateway.submit(submission, now)
        bounced = [
            Receipt(number, attempt, Status.HARD_BOUNCED, now, detail=RESERVED_RECIPIENT_DETAIL)
            for number in nobodies
        ]
        rest = submission.without(nobodies)
        if not rest.numbers:
            return SubmissionResult({now: nobodies}, bounced)
        done = self._gateway.submit(rest, now)
        accepted = dict(done.accepted)
        accepted[now] = [*accepted.get(now, ()), *nobodies]
        return SubmissionResult(accepted, [*done.receipts, *bounced], done.delay)

    def receipts(
        self, batch: Batch, awaited: Mapping[int, Sequence[int]], now: Instant
    ) -> PollResult[Receipt]:
        """What the gateway says."""
        return self._gateway.receipts(batch, awaited, now)

    def engagement(
        self, batch: Batch, delivered: DeliveredMessages, since: Instant, now: Instant
    ) -> PollResult[EngagementEvent]:
        """What the gateway says."""
        return self._gateway.engagement(batch, delivered, since, now)


def check_gateway(kind: str, settings: str, database: Database) -> None:
    """Raise :exc:`UsageError` where a gateway may not be used, or says that it can't be.

    One that has a method ``check`` is asked: it raises :exc:`GatewayUnavailable`.
    """
    gateway = open_gateway(kind, settings, database)
    try:
        if isinstance(gateway, GuardedGateway):
            gateway.check()
    except GatewayUnavailable as error:
        raise UsageError(str(error)) from None


def open_gateway(kind: str, settings: str, database: Database) -> Gateway:
    """A gateway, guarded if it reaches people; :exc:`UsageError` where it may not be used."""
    gateway_kind = load_gateway_kind(kind)
    if not gateway_kind.reaches_people:
        return gateway_kind.factory(settings, database)
    if kind not in load_settings().allowed_gateways:
        raise UsageError(
            f"the gateway {kind} reaches people outside; to allow it set"
            f" SENDTRACE_ALLOW_GATEWAYS={kind}"
        )
    return GuardedGateway(gateway_kind.factory(settings, database))
