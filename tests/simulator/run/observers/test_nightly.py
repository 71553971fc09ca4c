"""Nightly rollups: when the next one is due."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from simulator.run.observers.nightly import next_one_am
from tracker.clock import Instant, from_datetime


def parse_utc(text: str) -> Instant:
    return from_datetime(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("now", "zone", "expected"),
    [
        ("2026-11-24 00:59", "UTC", "2026-11-24 01:00"),
        ("2026-11-24 01:00", "UTC", "2026-11-25 01:00"),
        ("2026-11-23 19:29", "Asia/Kolkata", "2026-11-23 19:30"),
        ("2026-03-28 23:30", "Europe/Berlin", "2026-03-29 00:00"),
        ("2026-03-29 00:00", "Europe/Berlin", "2026-03-29 23:00"),
        ("2026-10-24 23:00", "Europe/Berlin", "2026-10-26 00:00"),
    ],
)
def test_the_next_1_am(now: str, zone: str, expected: str) -> None:
    assert next_one_am(parse_utc(now), ZoneInfo(zone)) == parse_utc(expected)
