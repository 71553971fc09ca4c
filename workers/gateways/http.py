"""Send email or SMS through an HTTP API: one request for each message.

A server that honors the idempotency key accepts each message once per attempt. Without such a key,
a message is sent again if a worker dies between the server's reply and the commit. A message whose
reply doesn't come isn't.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from tracker.clock import Instant, to_microseconds
from tracker.queries.acceptances import read_last_acceptance
from tracker.queries.message_lookup import find_customers_by_number
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import Receipt
from tracker.replies import ReplyKind
from tracker.status import Channel
from tracker.store.database import Database
from workers.addresses import parse_address
from workers.gateways.base import (
    MAX_REFUSALS,
    DeliveredMessages,
    GatewayUnavailable,
    PollResult,
    Submission,
    SubmissionResult,
)
from workers.gateways.http_replies import INVALID_ADDRESS_REPLY, NO_REPLY, HttpReply
from workers.gateways.http_settings import HttpSettings
from workers.gateways.http_template import CONTENT_VARIABLES, compile_json
from workers.gateways.replies import SubmissionReplies
from workers.gateways.step_time import MAX_CALL_SECONDS
from workers.message.rendering import MessageFailed, MessageRenderer
from workers.services.base import ServiceUnavailable

if TYPE_CHECKING:
    from workers.gateways.http_client import HttpClient

MAX_SILENCE_PAUSE_SECONDS = 300.0
"""Longest pause of a process after messages without a reply."""

REPORT_POLL = to_microseconds(timedelta(seconds=2))
"""Time between two looks, on the campaign's clock, at whether all messages have an outcome."""


class _Request(NamedTuple):
    """A request for a message; without content if its address is malformed.

    Attributes:
        failure: why the message couldn't be made; None if it was.
    """

    number: int
    content: bytes = b""
    idempotency_key: str = ""
    failure: MessageFailed | None = None


class HttpGateway:
    """A gateway that sends each message in a request.

    A 2xx reply counts as delivered, unless the server reports outcomes later. Such reports come
    through the inbound API.

    The rules of `workers.gateways.http_replies` tell what another reply says.
    """

    network: ClassVar = True

    def __init__(self, settings: str, database: Database) -> None:
        """Read the secrets from the environment; raise `UsageError` if they are wrong."""
        # Imported here, because every worker imports this module and few send through it.
        from workers.gateways.http_client import HttpClient

        self._settings = HttpSettings.model_validate_json(settings)
        self._template = compile_json(self._settings.body)
        self._client = HttpClient(self._settings)
        self._database = database
        self._pause_ends_at = 0.0
        self._pause_cause = ""
        self._unanswered = 0

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._client.close()

    def check(self) -> None:
        """Raise `GatewayUnavailable` if the server doesn't reply. No message is sent."""
        self._client.check()

    def submit(self, submission: Submission, _now: Instant) -> SubmissionResult:
        """Send messages, some at a time, until `MAX_CALL_SECONDS` have passed.

        The instant of an acceptance is that of the server's reply. During a pause that the server
        asked for, and after messages without a reply, no request is made.
        """
        if time.monotonic() < self._pause_ends_at:
            raise GatewayUnavailable(self._pause_cause)
        replies = SubmissionReplies(submission, is_delivery=self._settings.receipts_within is None)
        call = _Call(
            self._client,
            replies,
            self._make_requests(submission),
            self._unanswered,
        )
        parallel = 1 if self._unanswered else self._settings.parallel
        self._client.run(lambda: call.send_all(parallel))
        self._unanswered = call.unanswered
        if call.busy:
            reply = max(call.busy.values(), key=lambda reply: reply.retry_after)
            self._pause(reply.retry_after, reply)
        elif self._unanswered >= MAX_REFUSALS:
            seconds = 2.0 ** min(self._unanswered - MAX_REFUSALS, 10)
            self._pause(min(seconds, MAX_SILENCE_PAUSE_SECONDS), NO_REPLY)
        return call.result()

    def _pause(self, seconds: float, reply: HttpReply) -> None:
        """Make no request for some seconds, because of a reply."""
        self._pause_ends_at = time.monotonic() + seconds
        self._pause_cause = f"{self._client.server}: {reply}"

    def receipts(
        self, batch: Batch, awaited: Mapping[int, Sequence[int]], now: Instant
    ) -> PollResult[Receipt]:
        """Return no receipts, but the time of the next poll while the server may report some."""
        within = self._settings.receipts_within
        if within is None or not awaited:
            return PollResult(())
        with self._database.read() as connection:
            accepted_at = read_last_acceptance(connection, batch)
        ends_at = now if accepted_at is None else accepted_at + to_microseconds(within)
        return PollResult((), min(ends_at, now + REPORT_POLL) if now < ends_at else None)

    def engagement(
        self, _batch: Batch, _delivered: DeliveredMessages, _since: Instant, _now: Instant
    ) -> PollResult[EngagementEvent]:
        """Return no engagement: a provider reports it."""
        return PollResult(())

    def _make_requests(self, submission: Submission) -> Iterator[_Request]:
        """Yield the requests of messages, made when they are needed.

        Raises:
            ServiceUnavailable: the service that knows coupons or referrals is unavailable.
        """
        campaign = submission.campaign
        values: dict[str, object] = {
            "sender": campaign.sender,
            "campaign": campaign.name,
            "campaign_id": campaign.id,
            "channel": str(campaign.channel),
            "attempt": submission.attempt,
        }
        customer_ids = self._load_customer_ids(submission)
        renderer = MessageRenderer(self._database, campaign, submission.numbers)
        for number, address in zip(submission.numbers, submission.recipients, strict=True):
            recipient = _normalize_recipient(campaign.channel, address)
            if recipient is None:
                yield _Request(number)
                continue
            message_id = campaign.message_id(number).local_part
            key = f"{message_id}.{submission.attempt}"
            values |= {"number": number, "recipient": recipient, "message_id": message_id}
            values |= {"customer_id": customer_ids.get(number, ""), "idempotency_key": key}
            try:
                content = self._render(renderer, number, values)
            except MessageFailed as error:
                yield _Request(number, failure=error)
            else:
                yield _Request(number, content, key)

    def _load_customer_ids(self, submission: Submission) -> Mapping[int, str]:
        """Return the ids of the customers by number, if the template uses them."""
        if "customer_id" not in self._template.variables:
            return {}
        with self._database.read() as connection:
            return find_customers_by_number(
                connection, submission.campaign.audience_id, submission.numbers
            )

    def _render(
        self, renderer: MessageRenderer, number: int, values: Mapping[str, object]
    ) -> bytes:
        """Return the JSON for a message; raise `MessageFailed` if a template raises an error."""
        if CONTENT_VARIABLES & self._template.variables:
            message = renderer.render(number)
            content = {name: value or "" for name, value in message._asdict().items()}
            values = {**values, **content}
        try:
            return json.dumps(self._template.render(values)).encode()
        except Exception as error:  # a template may raise anything
            raise MessageFailed("json", error) from error


def _normalize_recipient(channel: Channel, recipient: str) -> str | None:
    """Return a recipient as it is sent, None if it is a malformed email address."""
    if channel is Channel.SMS:
        return recipient
    address = parse_address(recipient)
    return None if address is None else address.text


class _Call:
    """One call of the gateway: its requests, and the replies so far."""

    def __init__(
        self,
        client: "HttpClient",
        replies: SubmissionReplies,
        requests: Iterator[_Request],
        unanswered: int,
    ) -> None:
        self._client = client
        self._requests = requests
        self._replies = replies
        self._ends_at = time.monotonic() + MAX_CALL_SECONDS
        self._error: Exception | None = None
        self.busy: dict[int, HttpReply] = {}
        self.unanswered = unanswered

    async def send_all(self, parallel: int) -> None:
        """Send the messages, as many at a time as are allowed, until there is a reason to stop."""
        await asyncio.gather(*(self._send_some() for _ in range(parallel)))

    def result(self) -> SubmissionResult:
        """Return the result; raise the error if nothing came of the call."""
        # Refused last, these messages don't bounce because others were accepted meanwhile.
        for number, reply in self.busy.items():
            self._replies.add(number, reply)
        if self._error is not None and not self._replies.is_worth_recording:
            raise self._error
        return self._replies.result()

    @property
    def _is_over(self) -> bool:
        return bool(
            self._error
            or self.busy
            or self._replies.is_refusing
            or self.unanswered >= MAX_REFUSALS
            or time.monotonic() > self._ends_at
        )

    async def _send_some(self) -> None:
        try:
            for request in self._requests:
                await self._send(request)
                if self._is_over:
                    return
        except ServiceUnavailable as error:
            self._error = GatewayUnavailable(str(error))
        except Exception as error:
            # Whatever it is, what the server has accepted must be recorded first.
            self._error = error

    async def _send(self, request: _Request) -> None:
        if request.failure is not None:
            self._replies.add_failed(request.number, request.failure)
        elif not request.content:
            self._add(request.number, INVALID_ADDRESS_REPLY)
        else:
            reply = await self._client.send(request.content, request.idempotency_key)
            self._add(request.number, reply)

    def _add(self, number: int, reply: HttpReply) -> None:
        if reply.asks_for_pause and self._replies.classify(reply) is ReplyKind.US:
            self.busy[number] = reply
        else:
            self._replies.add(number, reply)
        self.unanswered = self.unanswered + 1 if reply is NO_REPLY else 0
