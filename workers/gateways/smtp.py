"""Send email through an SMTP server (RFC 5321) that the environment configures.

SMTP has no idempotency key. If a worker dies between the server's reply and the commit, the message
is sent again, with the same Message-ID. A message that got no reply isn't sent again.
"""

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tracker.clock import Instant
from tracker.record.catalog import Batch
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
from workers.gateways.email_content import Envelope, InvalidRecipient, build_email
from workers.gateways.replies import SubmissionReplies
from workers.gateways.smtp_connection import SmtpConnection, SmtpReply
from workers.gateways.smtp_settings import load_smtp_settings
from workers.gateways.step_time import MAX_CALL_SECONDS
from workers.message.rendering import MessageFailed, MessageRenderer
from workers.services.base import ServiceUnavailable

INVALID_ADDRESS_REPLY = SmtpReply(553, "5.1.3 invalid address")


class SmtpGateway:
    """A gateway that sends each message in an SMTP transaction. A 2xx reply counts as delivered.

    The rules of `tracker.replies` classify other replies.
    """

    network: ClassVar = True
    channels: ClassVar = frozenset({Channel.EMAIL})

    def __init__(self, _settings: str, database: Database) -> None:
        """Read the settings from the environment; raise `UsageError` if they are wrong."""
        self._database = database
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
        renderer = MessageRenderer(self._database, submission.campaign, submission.numbers)
        for number, recipient in zip(submission.numbers, submission.recipients, strict=True):
            try:
                replies.add(number, self._send(renderer, number, recipient))
            except MessageFailed as error:
                replies.add_failed(number, error)
            except (GatewayUnavailable, ServiceUnavailable) as error:
                if not replies.is_worth_recording:
                    raise GatewayUnavailable(str(error)) from None
                break
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

    def _send(self, renderer: MessageRenderer, number: int, recipient: str) -> SmtpReply:
        address = parse_address(recipient)
        if address is None:
            return INVALID_ADDRESS_REPLY
        envelope = Envelope(
            campaign=renderer.campaign,
            number=number,
            sender_address=self._settings.from_,
            recipient=address.text,
        )
        rendered = renderer.render(number)
        try:
            content = build_email(envelope, rendered, renderer.size)
        except InvalidRecipient:
            return INVALID_ADDRESS_REPLY
        return self._connection.send(address.text, content)
