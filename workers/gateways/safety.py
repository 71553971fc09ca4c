"""Keep synthetic messages from real people.

A gateway that reaches people is used only if SENDTRACE_ALLOW_GATEWAYS names it. It never gets
messages to recipients that are reserved for documentation and fiction: the check
`gateway_configuration` blocks such messages earlier. Reserved recipients are:

- email domains of RFC 2606 and RFC 6761;
- mobile numbers that regulators set aside for fiction (`workers.mobile.RESERVED_FOR_FICTION`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tracker.clock import Instant
from tracker.errors import UsageError
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import Receipt
from tracker.settings import load_settings
from tracker.status import Channel, Status
from tracker.store.database import Database
from workers.addresses import parse_address
from workers.gateways.base import (
    Acceptances,
    DeliveredMessages,
    Gateway,
    GatewayUnavailable,
    PollResult,
    Submission,
    SubmissionResult,
    SupportsCheck,
    load_gateway_kind,
)
from workers.mobile import RESERVED_FOR_FICTION

RESERVED_TOP_LEVEL_DOMAINS = frozenset({"test", "example", "invalid", "localhost"})
RESERVED_DOMAINS = frozenset({"example.com", "example.net", "example.org"})

RESERVED_RECIPIENT_DETAIL = "reserved for documentation and fiction; not sent"


def is_reserved(channel: Channel, recipient: str) -> bool:
    """Return whether an email address or E.164 number can't belong to a person."""
    if channel is Channel.SMS:
        return RESERVED_FOR_FICTION.fullmatch(recipient) is not None
    address = parse_address(recipient)
    domain = (recipient if address is None else address.text).rpartition("@")[2]
    labels = domain.strip().rstrip(".").lower().split(".")
    return labels[-1] in RESERVED_TOP_LEVEL_DOMAINS or ".".join(labels[-2:]) in RESERVED_DOMAINS


class GuardedGateway:
    """A gateway that never gets messages to reserved recipients; those bounce hard instead.

    The check `gateway_configuration` blocks them before, unless a worker of an earlier version ran
    the step `validate`.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def check(self) -> None:
        """Test the gateway's connection, if the gateway supports that."""
        if isinstance(self._gateway, SupportsCheck):
            self._gateway.check()

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        """Submit messages to people; accept those to reserved recipients and bounce them hard.

        A gateway that reports `now` for a message doesn't know when it was accepted: none can be
        accepted when the call begins. Such a message counts as accepted when the call returned.
        """
        reserved = {
            number
            for number, recipient in zip(submission.numbers, submission.recipients, strict=True)
            if is_reserved(submission.campaign.channel, recipient)
        }
        to_people = submission.without(reserved) if reserved else submission
        result = SubmissionResult({})
        if to_people.numbers:
            result = self._gateway.submit(to_people, now)
        returned_at = submission.campaign.clock.now()
        numbers, at = result.acceptances(returned_at)
        instants = np.full(len(numbers) + len(reserved), returned_at)
        instants[: len(numbers)] = at
        instants[instants == now] = returned_at
        accepted = Acceptances([*numbers, *reserved], instants)
        attempt, detail = submission.attempt, RESERVED_RECIPIENT_DETAIL
        bounces = [
            Receipt(number, attempt, Status.HARD_BOUNCED, returned_at, detail=detail)
            for number in reserved
        ]
        return replace(result, accepted=accepted, receipts=[*result.receipts, *bounces])

    def receipts(
        self, batch: Batch, awaited: Mapping[int, Sequence[int]], now: Instant
    ) -> PollResult[Receipt]:
        """Poll the gateway's receipts."""
        return self._gateway.receipts(batch, awaited, now)

    def engagement(
        self, batch: Batch, delivered: DeliveredMessages, since: Instant, now: Instant
    ) -> PollResult[EngagementEvent]:
        """Poll the engagement that the gateway reports."""
        return self._gateway.engagement(batch, delivered, since, now)


def check_gateway(kind: str, settings: str, database: Database) -> None:
    """Raise `UsageError` if a gateway is not allowed, is misconfigured, or can't be reached.

    A gateway that reaches people is asked to test its connection if it has a method `check`.
    """
    gateway = open_gateway(kind, settings, database)
    try:
        if isinstance(gateway, GuardedGateway):
            gateway.check()
    except GatewayUnavailable as error:
        raise UsageError(str(error)) from None


def open_gateway(kind: str, settings: str, database: Database) -> Gateway:
    """Return a gateway, guarded if it reaches people; raise `UsageError` if it is not allowed."""
    gateway_kind = load_gateway_kind(kind)
    if not gateway_kind.reaches_people:
        return gateway_kind.factory(settings, database)
    if kind not in load_settings().allowed_gateways:
        raise UsageError(
            f"gateway {kind}: sends to real people; set SENDTRACE_ALLOW_GATEWAYS={kind} to allow it"
        )
    return GuardedGateway(gateway_kind.factory(settings, database))
