"""Classify the replies of HTTP servers that accept messages.

A status says little: many providers answer 400 to an invalid recipient, and to a request that is
wrong for everybody. So only replies that name the recipient as the cause bounce a message. All
others count as refusals of the sender.
"""

import json
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

from tracker.clock import SystemClock, to_datetime
from tracker.replies import ReplyKind, ReplyRule, find_reply_kind

MAX_EXCERPT = 400
"""Characters of a body that the record keeps."""

MAX_RETRY_AFTER_SECONDS = 3_600.0
"""Longest pause that a server may ask for."""

BUSY_STATUSES = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""Statuses that ask for a pause before the next request."""

TEMPORARY_STATUSES = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)

DEFAULT_RULES: Sequence[ReplyRule] = (
    ReplyRule("400 5.1.3 invalid address", ReplyKind.HARD),
    # Twilio: no valid number, not reachable, not mobile, replied STOP, a landline.
    *(
        ReplyRule("400", ReplyKind.HARD, {"code": str(code)})
        for code in (21211, 21214, 21217, 21610, 21614, 21635)
    ),
    # SendGrid names the field, since the sender's address may be invalid as well.
    ReplyRule(
        "400 does not contain a valid address",
        ReplyKind.HARD,
        {"errors.field": "personalizations.0.to.0.email"},
    ),
    # Mailgun.
    ReplyRule("400 'to' parameter is not a valid address", ReplyKind.HARD),
    # Postmark: the recipient bounced, complained or was suppressed; an invalid address.
    ReplyRule("422", ReplyKind.HARD, {"ErrorCode": "406"}),
    ReplyRule("422 invalid 'to' address", ReplyKind.HARD, {"ErrorCode": "300"}),
)
"""The shipped rules for HTTP servers. Any other reply but 2xx refuses the sender."""


class HttpReply(NamedTuple):
    """A server's reply to one message.

    Attributes:
        text: the body in one line, without secrets, as much of it as was read.
        body: the body, if it is JSON.
        retry_after: the seconds after which the server accepts the next request.
    """

    code: int
    text: str = ""
    body: object = None
    retry_after: float = 0.0

    @property
    def is_success(self) -> bool:
        """True for a 2xx status."""
        return 200 <= self.code < 300

    @property
    def is_temporary(self) -> bool:
        """True if a later try may succeed."""
        return self.code >= HTTPStatus.INTERNAL_SERVER_ERROR or self.code in TEMPORARY_STATUSES

    @property
    def asks_for_pause(self) -> bool:
        """True if the server asks for a pause before the next request."""
        return self.code in BUSY_STATUSES

    def outcome(self, rules: Sequence[ReplyRule]) -> ReplyKind | None:
        """Return what the reply says of a message that wasn't accepted; None if it was.

        Some providers report errors with a status of 200. A rule of the scenario that names a code
        or a field of JSON applies to such a reply, too.
        """
        reply = f"{self.code} {self.text}"
        if self.is_success:
            exact = [rule for rule in rules if rule.code or rule.fields]
            return find_reply_kind(reply, exact, body=self.body)
        kind = find_reply_kind(reply, (*rules, *DEFAULT_RULES), body=self.body)
        return kind or ReplyKind.US

    def __str__(self) -> str:
        """Return the status and the beginning of the text."""
        return f"{self.code} {self.text[:MAX_EXCERPT]}".strip()


NO_REPLY = HttpReply(0, "no reply to the message")
"""Stands for the reply to a message that was handed over, which never came."""

INVALID_ADDRESS_REPLY = HttpReply(400, "5.1.3 invalid address")
"""Stands for the reply to a message whose address no server could accept. It isn't sent."""


def parse_json(content: bytes) -> object:
    """Return a body that is JSON; None for any other."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def describe_status(code: int) -> str:
    """Return the usual words for a status, which stand for an empty body."""
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return ""


def parse_retry_after(value: str | None) -> float:
    """Return the seconds that the header Retry-After asks to wait; 0 for none or a wrong one."""
    if not value:
        return 0.0
    try:
        seconds = float(value) if value.strip().isdigit() else _seconds_until(value)
    except (ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def _seconds_until(http_date: str) -> float:
    at = parsedate_to_datetime(http_date)
    now = to_datetime(SystemClock().now())
    return (at.replace(tzinfo=at.tzinfo or now.tzinfo) - now).total_seconds()
