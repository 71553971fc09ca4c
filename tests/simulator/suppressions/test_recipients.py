"""Addresses and expiry dates of suppression lists, as people and files write them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.audience.problems import MobileProblem
from simulator.suppressions.recipients import (
    AddressProblem,
    UnusableEntry,
    parse_expiry,
    parse_recipient,
)
from tracker.clock import from_datetime
from tracker.record.suppressions.entries import Recipient
from tracker.status import Channel

EMAIL, SMS = Channel.EMAIL, Channel.SMS


@pytest.mark.parametrize(
    ("text", "channel", "region", "expected"),
    [
        ("Ana@Shop.Example", None, "", Recipient(EMAIL, "ana@shop.example")),
        (" ana@shop.example\n", EMAIL, "", Recipient(EMAIL, "ana@shop.example")),
        ("ana\u200b@shop.example", None, "", Recipient(EMAIL, "ana@shop.example")),
        ("ana\u200d@shop.example", None, "", Recipient(EMAIL, "ana@shop.example")),
        ("\u200bana@ශ්\u200dරී.lk", None, "", Recipient(EMAIL, "ana@xn--10cl1a0b660p.lk")),
        ("ana@BÜCHER.example", None, "", Recipient(EMAIL, "ana@xn--bcher-kva.example")),
        ("ana+news@shop.example", None, "", Recipient(EMAIL, "ana+news@shop.example")),
        ("+447700900123", None, "", Recipient(SMS, "+447700900123")),
        ("'+44 7700 900123", None, "", Recipient(SMS, "+447700900123")),
        ("07700 900123", SMS, "GB", Recipient(SMS, "+447700900123")),
        ("7700900123.0", SMS, "GB", Recipient(SMS, "+447700900123")),
    ],
)
def test_a_recipient_is_listed_as_it_is_compared(
    text: str, channel: Channel | None, region: str, expected: Recipient
) -> None:
    assert parse_recipient(text, channel, region) == expected


@pytest.mark.parametrize(
    ("text", "channel", "cause"),
    [
        ("", None, AddressProblem.EMPTY),
        ("N/A", None, AddressProblem.EMPTY),
        ("ana@", None, AddressProblem.MALFORMED),
        ("ana", EMAIL, AddressProblem.MALFORMED),
        ('=HYPERLINK("http://x")', EMAIL, AddressProblem.MALFORMED),
        ("ana@shop.example,bo@shop.example", None, AddressProblem.MALFORMED),
        ("a\0na@shop.example", None, AddressProblem.MALFORMED),
        ("Bounce+7@simulator.example", None, AddressProblem.FORCED),
        ("+61491570156", None, AddressProblem.FORCED),
        ("07700 900123", None, MobileProblem.NO_COUNTRY),
        ("9.99E9", None, MobileProblem.SPREADSHEET),
        ("2026-11-30", None, MobileProblem.DATE),
        ("ana", None, MobileProblem.TEXT),
    ],
)
def test_what_is_never_compared_is_refused_with_its_cause(
    text: str, channel: Channel | None, cause: AddressProblem
) -> None:
    with pytest.raises(UnusableEntry) as raised:
        parse_recipient(text, channel)
    assert raised.value.cause is cause


@given(st.text(max_size=40), st.sampled_from([None, EMAIL, SMS]))
def test_a_parsed_recipient_stays_the_same(text: str, channel: Channel | None) -> None:
    try:
        recipient = parse_recipient(text, channel, "GB")
    except UnusableEntry:
        return
    assert parse_recipient(recipient.address, recipient.channel) == recipient


def test_a_day_counts_to_its_end_in_the_zone_and_a_time_by_its_offset() -> None:
    kolkata = ZoneInfo("Asia/Kolkata")
    assert parse_expiry("2027-01-31", kolkata) == from_datetime(
        datetime(2027, 1, 31, 18, 30, tzinfo=UTC)
    )
    assert parse_expiry("2027-01-31T12:00:00+02:00", kolkata) == from_datetime(
        datetime(2027, 1, 31, 10, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", "not a date; expected YYYY-MM-DD"),
        ("2027-02-30", "not a date"),
        ("9999-12-31", "out of range"),
        ("2027-01-31T12:00:00", "without its offset"),
        ("0001-01-01", "out of range"),
        ("3000-01-01", "out of range"),
    ],
)
def test_an_impossible_date_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_expiry(text, UTC)
