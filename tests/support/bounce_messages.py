"""Bounce messages (RFC 3464) as mail servers write them."""

from tracker.message_ids import MessageId

MESSAGE_ID = MessageId(4711, 3, "0123456789ab")

_BOUNCE = """\
From: MAILER-DAEMON@mx.internal
To: news@shop.internal
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="=_b"

This is a MIME-encapsulated message.

--=_b
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.

--=_b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.internal
Arrival-Date: Mon, 30 Nov 2026 12:00:00 +0000

Final-Recipient: rfc822; ann@shop.internal
Action: {action}
Status: {status}
{diagnostic}
--=_b
Content-Type: {returned}

From: Acme <news@shop.internal>
Message-ID: {message_id}
Subject: spring

--=_b--
"""


def make_bounce(
    message_id: MessageId = MESSAGE_ID,
    *,
    action: str = "failed",
    status: str = "5.1.1",
    diagnostic: str = "smtp; 550 5.1.1 no such user",
    returned: str = "message/rfc822",
) -> bytes:
    """Return a raw bounce message about an email."""
    text = _BOUNCE.format(
        action=action,
        status=status,
        diagnostic=f"Diagnostic-Code: {diagnostic}\n" if diagnostic else "",
        returned=returned,
        message_id=message_id.format("shop.internal"),
    )
    return text.encode()
