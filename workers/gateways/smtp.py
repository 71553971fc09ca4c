"""Send email through an SMTP server (RFC 5321) that the environment configures.

SMTP has no idempotency key. If a worker dies between the server's reply and the commit, the message
is sent again, with the same Message-ID. A message that got no reply isn't sent again.
"""

import time
from collections.abc import Mapping, Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as WIRE_FORMAT
from email.utils import format_datetime
from typing import ClassVar

from tracker.clock import Instant, to_datetime
from tracker.message_ids import MessageId, compute_digest
from tracker.record.catalog import Batch, Campaign
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import Receipt
from tracker.status import Channel
from tracker.store.database import Database
from workers.addresses import parse_address
from workers.gateways.base import (
    DeliveredMessages,
    GatewayUnavailable,
    PollResult,
    Submission,
    SubmissionResult,
)
from workers.gateways.replies import SubmissionReplies
from workers.gateways.smtp_connection import SmtpConnection, SmtpReply
from workers.gateways.smtp_settings import load_smtp_settings

MAX_CALL_SECONDS = 20.0
"""Time after which a call sends no more messages. A step has 60 seconds; the remaining messages
are submitted in another step."""

INVALID_ADDRESS_REPLY = SmtpReply(553, "5.1.3 invalid address")


class SmtpGateway:
    """A gateway that sends each message in an SMTP transaction. A 2xx reply counts as delivered.

    The rules of `tracker.replies` classify other replies.
    """

    network: ClassVar = True
    channels: ClassVar = frozenset({Channel.EMAIL})

    def __init__(self, _settings: str, _database: Database) -> None:
        """Read the settings from the environment; raise `UsageError` if they are wrong."""
        self._settings = load_smtp_settings()
        self._connection = SmtpConnection(self._settings)

    def check(self) -> None:
        """Raise `GatewayUnavailable` if the server can't be reached or refuses the login."""
        self._connection.ensure_open()

    def submit(self, submission: Submission, _now: Instant) -> SubmissionResult:
        """Send messages one after the other, until `MAX_CALL_SECONDS` have passed.

        The instant of an acceptance is that of the server's reply.
        """
        started_at = time.monotonic()
        replies = SubmissionReplies(submission)
        for number, recipient in zip(submission.numbers, submission.recipients, strict=True):
            try:
                reply = self._send(submission.campaign, number, recipient)
            except GatewayUnavailable:
                if not replies.is_worth_recording:
                    raise
                break
            replies.add(number, reply)
            if replies.is_refusing or time.monotonic() - started_at > MAX_CALL_SECONDS:
                break
        return replies.result()

    def receipts(
        self, _batch: Batch, _awaited: Mapping[int, Sequence[int]], _now: Instant
    ) -> PollResult[Receipt]:
        """Return no receipts: `submit` returns all of them."""
        return PollResult(())

    def engagement(
        self, _batch: Batch, _delivered: DeliveredMessages, _since: Instant, _now: Instant
    ) -> PollResult[EngagementEvent]:
        """Return no engagement: an SMTP server doesn't know it."""
        return PollResult(())

    def _send(self, campaign: Campaign, number: int, recipient: str) -> SmtpReply:
        address = parse_address(recipient)
        if address is None:
            return INVALID_ADDRESS_REPLY
        try:
            content = self._build_message(campaign, number, address.text)
        except (ValueError, IndexError, AttributeError):  # the email package can't parse it
            return INVALID_ADDRESS_REPLY
        return self._connection.send(address.text, content)

    def _build_message(self, campaign: Campaign, number: int, recipient: str) -> bytes:
        message = EmailMessage(policy=WIRE_FORMAT.clone(utf8=not recipient.isascii()))
        # Line ends in a sender's name would add headers.
        name = "".join(char if char.isprintable() else " " for char in campaign.sender)
        message["Subject"] = campaign.name
        message["From"] = Address(name, addr_spec=self._settings.from_)
        message["To"] = recipient
        message["Date"] = format_datetime(to_datetime(campaign.clock.now()))
        digest = compute_digest(campaign.run_id, campaign.really_started_at, campaign.name)
        domain = self._settings.from_.rpartition("@")[2]
        message["Message-ID"] = MessageId(number, campaign.id, digest).format(domain)
        message.set_content(f"{campaign.name}\n")
        return message.as_bytes()
