"""The content of an email as a mail program reads it: headers, parts and size."""

from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.factory import SPRING
from tracker.organizations import ChannelSettings
from tracker.record.catalog import Campaign
from tracker.text import to_one_line
from workers.gateways.email_content import Envelope, InvalidRecipient, build_email
from workers.message.rendering import RenderedMessage

HEADERS = {"Subject", "From", "To", "Date", "Message-ID"} | {
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
}

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def build(
    rendered: RenderedMessage,
    size: int | None = None,
    campaign: Campaign = SPRING,
    recipient: str = "ann@shop.internal",
) -> bytes:
    """Return the email to one recipient."""
    envelope = Envelope(
        campaign=campaign,
        number=7,
        sender_address="news@shop.internal",
        recipient=recipient,
    )
    return build_email(envelope, rendered, size)


def parse(content: bytes) -> EmailMessage:
    """Return an email as a mail program reads it."""
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def read_part(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    text: str = part.get_content()
    return text.replace("\r\n", "\n")


@example(subject="=?utf-8?q?no?=", sender="=?utf-8?q?no?=")
@given(subject=TEXTS, sender=TEXTS)
def test_a_subject_in_any_script_arrives_and_adds_no_header(subject: str, sender: str) -> None:
    one_line = to_one_line(subject)
    content = build(RenderedMessage(one_line, "text"), campaign=replace(SPRING, sender=sender))
    message = parse(content)
    assert message["Subject"] == one_line
    assert {*message.keys()} == HEADERS
    assert len(message) == len(HEADERS)
    head = content.partition(b"\r\n\r\n")[0]
    assert max(map(len, head.split(b"\r\n"))) <= 78
    assert head.isascii()


@given(text=TEXTS, html=TEXTS)
def test_both_parts_arrive_over_a_server_that_takes_only_ascii(text: str, html: str) -> None:
    content = build(RenderedMessage("s", text, html))
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 998
    message = parse(content)
    assert message.get_content_type() == "multipart/alternative"
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "text/html"]
    for kind, expected in (("plain", text), ("html", html)):
        assert read_part(message, kind).splitlines() == f"{expected.rstrip()}\n".splitlines()


@pytest.mark.parametrize("html", [None, "<p>ünter</p>"])
@pytest.mark.parametrize("size", [5_000, 40_000, 1_000_000])
def test_an_email_is_padded_to_its_size(size: int, html: str | None) -> None:
    content = build(RenderedMessage("s", "text", html), size)
    assert size * 0.98 <= len(content) <= size
    message = parse(content)
    [attachment] = message.iter_attachments()
    assert attachment.get_content_type() == "text/plain"
    assert read_part(message, "plain") == "text\n"
    if html is not None:
        assert read_part(message, "html") == f"{html}\n"


def test_an_email_beyond_its_size_stays_as_it_is() -> None:
    message = RenderedMessage("s", 300 * "text ")
    assert len(build(message, 1_000)) == len(build(message)) > 1_000


@pytest.mark.parametrize(
    ("url", "address", "headers"),
    [
        (None, None, (None, None)),
        (None, "out@shop.internal", ("<mailto:out@shop.internal?subject=unsubscribe>", None)),
        (
            None,
            "a+b&c=d?@s.internal",
            ("<mailto:a%2Bb%26c%3Dd%3F@s.internal?subject=unsubscribe>", None),
        ),
        ("http://shop.internal/u", None, ("<http://shop.internal/u>", None)),
        (
            "https://shop.internal/u?c=" + 300 * "1",
            "out@shop.internal",
            (
                "<https://shop.internal/u?c=" + 300 * "1" + ">,"
                " <mailto:out@shop.internal?subject=unsubscribe>",
                "List-Unsubscribe=One-Click",
            ),
        ),
    ],
)
def test_one_click_is_offered_for_https_only(
    url: str | None, address: str | None, headers: tuple[str | None, str | None]
) -> None:
    campaign = replace(SPRING, channel_settings=ChannelSettings(unsubscribe_email=address))
    content = build(RenderedMessage("s", "text", unsubscribe_url=url), campaign=campaign)
    message = parse(content)
    assert (message["List-Unsubscribe"], message["List-Unsubscribe-Post"]) == headers
    assert url is None or url.encode() in content, "not encoded and not folded"


def test_a_recipient_that_no_header_can_have_is_refused() -> None:
    with pytest.raises(InvalidRecipient):
        build(RenderedMessage("s", "text"), recipient="ann@[shop")
