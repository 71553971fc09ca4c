"""Bounce messages: valid ones, hostile ones, and messages about something else."""

import pytest

from tests.support.bounce_messages import MESSAGE_ID, make_bounce
from tracker.delivery_reports import MAX_HEADER_LENGTH, MAX_PARTS, parse_delivery_report
from tracker.message_ids import MessageId
from tracker.replies import ReplyKind, ReplyRule
from tracker.status import Status


@pytest.mark.parametrize(
    ("action", "status", "diagnostic", "expected"),
    [
        ("failed", "5.1.1", "smtp; 550 5.1.1 no such user", Status.HARD_BOUNCED),
        ("Failed (5.1.1)", "5.1.1", "", Status.HARD_BOUNCED),
        ("failed", "5.0.0", "smtp; 552 5.2.2 the mailbox is full", Status.SOFT_BOUNCED),
        ("failed", "4.4.7", "", Status.SOFT_BOUNCED),
        ("failed", "5.7.1", "smtp; 554 5.7.1 blocked", Status.NOT_DELIVERED),
        ("failed", "5.4.4", "X-Postfix; Host or domain name not found", Status.HARD_BOUNCED),
        ("failed", "5.1.1 (no mailbox)", "smtp; 554 delivery error", Status.HARD_BOUNCED),
        ("failed", "4.4.1", "X-Postfix; connect to mx: Connection timed out", Status.SOFT_BOUNCED),
        ("delivered", "2.0.0", "", Status.DELIVERED),
        ("delayed", "4.4.1", "", None),
        ("relayed", "2.0.0", "", None),
    ],
)
@pytest.mark.parametrize("returned", ["message/rfc822", "text/rfc822-headers"])
def test_a_bounce_message_reports_the_outcome_of_an_email(
    action: str, status: str, diagnostic: str, expected: Status | None, returned: str
) -> None:
    report = parse_delivery_report(
        make_bounce(action=action, status=status, diagnostic=diagnostic, returned=returned)
    )
    assert report.message_id == MESSAGE_ID
    assert report.outcome() is expected


def test_rules_of_a_gateway_hold_for_bounce_messages() -> None:
    report = parse_delivery_report(make_bounce(diagnostic="smtp; 550 5.1.1 no such user"))
    assert report.reply == "550 5.1.1 no such user"
    assert report.outcome((ReplyRule("5.1.1", ReplyKind.SOFT),)) is Status.SOFT_BOUNCED


def test_the_final_status_counts_among_those_of_several_recipients() -> None:
    bounce = make_bounce(action="delayed").replace(
        b"Action: delayed", b"Action: delayed\n\nFinal-Recipient: rfc822; b@b\nAction: failed"
    )
    assert parse_delivery_report(bounce).action == "failed"


def nest(depth: int) -> bytes:
    """Return a message whose parts are nested so deep."""
    heads = (
        f"Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n"
        for level in range(depth)
    )
    return "".join(heads).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\xff" * 100,
        b"Subject: out of office\n\nI am away.\n",
        make_bounce().replace(b"message/delivery-status", b"text/plain"),
        make_bounce().replace(b"Action:", b"Nothing:"),
        make_bounce().replace(b"Message-ID:", b"X-Nothing:"),
        make_bounce().replace(b"boundary", b"bound"),
        b"Content-Type: message/delivery-status\n\n\n\n",
        b"Content-Type: message/rfc822\n\n",
        make_bounce().replace(
            b"Final-Recipient", b"X-Nothing: 1\n\n" * MAX_PARTS + b"Final-Recipient"
        ),
        make_bounce().replace(
            b'boundary="', b"x='" + b";" * MAX_HEADER_LENGTH + b"';" + b'boundary="'
        ),
        nest(15),
        nest(1_000),
    ],
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"bounce message|delivery-status"):
        parse_delivery_report(content)


def test_a_message_id_is_read_back() -> None:
    assert MessageId.parse(f"x {MESSAGE_ID.format('shop.internal')}") == MESSAGE_ID
    for text in (
        "",
        "<1.2@x>",
        "<1.2.abcdefabcde@x>",
        "<-1.2.abcdefabcdef@x>",
        f"<{'9' * 99}.1.a@x>",
    ):
        assert MessageId.parse(text) is None
