"""Time: one clock for everything that happens in a run.

Instants are whole microseconds since 1970-01-01 UTC, as plain integers: exact, ordered, the
same in both databases and cheap a million times over. People see aware datetimes in UTC.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

Instant = int
"""Microseconds since 1970-01-01 00:00 UTC."""

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(instant: Instant) -> datetime:
    """The same moment as an aware datetime in UTC."""
    return EPOCH + timedelta(microseconds=instant)


def from_datetime(moment: datetime) -> Instant:
    """The same moment as an instant; ``moment`` must be aware."""
    return (moment - EPOCH) // MICROSECOND


class Clock(Protocol):
    """What tells the time."""

    def now(self) -> Instant: ...


@dataclass(frozen=True)
class SystemClock:
    """The computer's own time."""

    def now(self) -> Instant:
        return time.time_ns() // 1000


@dataclass(frozen=True)
class ScaledClock:
    """A clock that agrees with the computer's at ``start`` and runs ``speed`` times as fast; it was
    put forward by ``ahead`` since."""

    start: Instant
    speed: float
    ahead: int = 0

    def now(self) -> Instant:
        passed = time.time_ns() // 1000 - self.start
        return self.start + self.ahead + int(passed * self.speed)


def make_clock(start: Instant, speed: float, ahead: int = 0) -> Clock:
    """The clock of a run that began at ``start``, plays ``speed`` times as fast as life, and was
    put forward by ``ahead`` microseconds."""
    return SystemClock() if speed == 1 and not ahead else ScaledClock(start, speed, ahead)
