"""Read bounce messages: delivery status notifications (RFC 3464) about email that we sent.

They come from anywhere, so each part of one may be missing, malformed or hostile.
"""

from collections.abc import Callable, Iterable, Iterator
from email import message_from_bytes, message_from_string
from email.message import Message
from email.policy import Compat32, Policy
from itertools import count
from typing import Any, NamedTuple

from tracker.message_ids import MessageId
from tracker.replies import ReplyKind, ReplyRule, classify_reply
from tracker.status import Status

MAX_NESTED_TYPES = 20
"""Media types of nested parts in a bounce message. The parser's time and stack grow with them."""

_NESTED_TYPES = (b"multipart/", b"message/")

MAX_PARTS = 1_000
"""Parts of a bounce message, each block of a delivery status included."""

MAX_HEADER_LENGTH = 2_000
"""Characters of a header that are read. The parser's time grows with the square of a header."""

DELIVERED_ACTION, FAILED_ACTION = "delivered", "failed"
"""Actions of RFC 3464 that end the delivery. A delayed or relayed message may still fail."""

MAX_REPLY_LENGTH = 500


class DeliveryReport(NamedTuple):
    """The contents of a bounce message about one email.

    Attributes:
        action: the action of the mail server: `failed`, `delayed`, `delivered`, `relayed` …
        status: the enhanced code; one in the reply comes before it.
        reply: the reply of the recipient's server, or the enhanced code.
    """

    message_id: MessageId
    action: str
    status: str
    reply: str

    def outcome(self, rules: Iterable[ReplyRule] = ()) -> Status | None:
        """Return the outcome of the message; None if the server is still trying.

        A message that was refused because of the sender counts as not delivered, not as bounced.
        """
        if self.action == DELIVERED_ACTION:
            return Status.DELIVERED
        if self.action != FAILED_ACTION:
            return None
        match classify_reply(self.reply, rules, status=self.status):
            case ReplyKind.HARD:
                return Status.HARD_BOUNCED
            case ReplyKind.SOFT:
                return Status.SOFT_BOUNCED
            case ReplyKind.US:
                return Status.NOT_DELIVERED


class _ShortHeaders(Compat32):
    """The policy of a parser that reads only the beginning of a long header."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:MAX_HEADER_LENGTH]


def parse_delivery_report(content: bytes) -> DeliveryReport:
    """Parse a raw bounce message; raise ValueError if it isn't about an email of sendtrace."""
    lowered = content.lower()
    if sum(lowered.count(name) for name in _NESTED_TYPES) > MAX_NESTED_TYPES:
        raise ValueError(f"expected a bounce message with at most {MAX_NESTED_TYPES} nested parts")
    try:
        message = message_from_bytes(
            content, policy=_ShortHeaders(message_factory=_make_part_factory())
        )
        parts = list(message.walk())
        recipients = [fields for part in parts for fields in _read_recipients(part)]
        message_id = _find_message_id(message, parts)
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
        # The parser of the standard library raises any of them for malformed messages.
        raise ValueError("the bounce message can't be parsed") from None
    if not recipients:
        raise ValueError("expected a message with a part message/delivery-status (RFC 3464)")
    if message_id is None:
        raise ValueError("the bounce message has no Message-ID of an email that sendtrace sent")
    final = (DELIVERED_ACTION, FAILED_ACTION)
    decisive = next((entry for entry in recipients if entry[0] in final), recipients[0])
    return DeliveryReport(message_id, *decisive)


def _make_part_factory() -> Callable[..., "Message[Any, Any]"]:
    """Return a function that makes the parts of one message, MAX_PARTS at most."""
    parts = count()

    def make_part(policy: "Policy[Any]") -> "Message[Any, Any]":
        if next(parts) >= MAX_PARTS:
            raise ValueError
        return Message(policy)

    return make_part


def _read_recipients(part: "Message[Any, Any]") -> Iterator[tuple[str, str, str]]:
    """Yield action, enhanced code and reply for each recipient in a delivery status."""
    blocks = part.get_payload()
    if part.get_content_type() != "message/delivery-status" or not isinstance(blocks, list):
        return
    for block in blocks:
        action, _, _ = _read_field(block, "Action").lower().partition(" ")
        if action:
            status, _, _ = _read_field(block, "Status").partition(" ")
            _, _, diagnostic = _read_field(block, "Diagnostic-Code").partition(";")
            reply = " ".join(diagnostic.split()) or status
            yield action, status, reply[:MAX_REPLY_LENGTH]


def _read_field(block: object, name: str) -> str:
    if not isinstance(block, Message):
        return ""
    return str(block.get(name, "")).strip()


def _find_message_id(
    message: "Message[Any, Any]", parts: "list[Message[Any, Any]]"
) -> MessageId | None:
    """Return the Message-ID of the email that a bounce message is about."""
    for part in parts:
        original = _original_headers(part)
        message_id = original and MessageId.parse(_read_field(original, "Message-ID"))
        if message_id:
            return message_id
    references = (_read_field(message, name) for name in ("In-Reply-To", "References"))
    return MessageId.parse(" ".join(references))


def _original_headers(part: "Message[Any, Any]") -> "Message[Any, Any] | None":
    """Return the headers of the original email, if a part has them."""
    payload = part.get_payload()
    match part.get_content_type():
        case "message/rfc822" if isinstance(payload, list) and isinstance(payload[0], Message):
            return payload[0]
        case "text/rfc822-headers":
            decoded = part.get_payload(decode=True)
            if isinstance(decoded, bytes):
                text = decoded.decode("ascii", "replace")
                return message_from_string(text, policy=_ShortHeaders())
    return None
