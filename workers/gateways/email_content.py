"""Build the content of an email: headers, text, HTML and padding (RFC 5322, MIME)."""

from dataclasses import dataclass
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from urllib.parse import quote

from tracker.clock import to_datetime
from tracker.errors import SendtraceError
from tracker.record.catalog import Campaign
from tracker.text import to_one_line
from workers.message.rendering import RenderedMessage

WIRE_FORMAT = SMTP.clone(cte_type="7bit")
"""Without characters outside ASCII in the body, since not every server takes them (RFC 6152)."""

PADDING_LINE = b"padding " * 9 + b"end.\r\n"

LINE_LENGTH = 76
"""Length to which headers are folded, and the length of a line of padding without its end."""


class InvalidRecipient(SendtraceError):
    """An address that can't stand in a header."""


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """The parties of an email, and the number of its message."""

    campaign: Campaign
    number: int
    sender_address: str
    recipient: str


def build_email(envelope: Envelope, rendered: RenderedMessage, size: int | None = None) -> bytes:
    """Return an email as it goes over the wire.

    Args:
        size: bytes up to which an attachment of plain text pads it.

    Raises:
        InvalidRecipient: the email package can't parse the recipient's address.
    """
    campaign, recipient = envelope.campaign, envelope.recipient
    message = EmailMessage(policy=WIRE_FORMAT.clone(utf8=not recipient.isascii()))
    message["From"] = Address(to_one_line(campaign.sender), addr_spec=envelope.sender_address)
    try:
        message["To"] = recipient
    except (ValueError, IndexError, AttributeError):  # what its parser may raise
        raise InvalidRecipient(recipient) from None
    message["Date"] = format_datetime(to_datetime(campaign.clock.now()))
    domain = envelope.sender_address.rpartition("@")[2]
    message["Message-ID"] = campaign.message_id(envelope.number).format(domain)
    message.set_content(f"{rendered.text.rstrip()}\n")
    if rendered.html is not None:
        message.add_alternative(f"{rendered.html.rstrip()}\n", subtype="html")
    headers = _format_subject(rendered.subject) + _format_unsubscribe_headers(campaign, rendered)
    content = headers + message.as_bytes()
    if size is None or len(content) >= size:
        return content
    message.add_attachment("", filename="padding.txt", disposition="attachment", cte="7bit")
    *_, padding = message.iter_attachments()
    missing = size - len(headers) - len(message.as_bytes())
    lines = PADDING_LINE * (missing // len(PADDING_LINE))
    padding.set_payload(lines.decode("ascii"))
    return headers + message.as_bytes()


def _format_subject(subject: str) -> bytes:
    """Return the header, in encoded words (RFC 2047) where it isn't plain ASCII.

    The email package would fold encoded words at places where spaces are lost.
    """
    is_plain = subject.isascii() and "=?" not in subject
    charset = "us-ascii" if is_plain else "utf-8"
    header = Header(subject, charset, maxlinelen=LINE_LENGTH, header_name="Subject")
    return b"Subject: " + header.encode(linesep="\r\n").encode("ascii") + b"\r\n"


def _format_unsubscribe_headers(campaign: Campaign, rendered: RenderedMessage) -> bytes:
    """Return `List-Unsubscribe` (RFC 2369), and `List-Unsubscribe-Post` (RFC 8058) for https.

    The email package would encode long addresses, which no reader expects.
    """
    url, address = rendered.unsubscribe_url, campaign.channel_settings.unsubscribe_email
    addresses = [] if url is None else [f"<{url}>"]
    if address is not None:
        addresses.append(f"<mailto:{quote(address, safe='@')}?subject=unsubscribe>")
    if not addresses:
        return b""
    header = "List-Unsubscribe: " + ",\r\n ".join(addresses) + "\r\n"
    if url is not None and url.startswith("https:"):
        header += "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    return header.encode("ascii")
