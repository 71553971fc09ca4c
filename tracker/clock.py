"""Instants, durations and clocks. Units of time are converted here and nowhere else.

An instant is a whole number of microseconds since 1970-01-01 00:00 UTC, as a plain integer: exact,
ordered, the same in both databases, and cheap for millions of rows. People see aware datetimes.

A run has a clock of its own, which passes `speed` times as fast as real time.
"""

import re
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import TYPE_CHECKING, Any, Protocol, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Instant = int
"""Microseconds since 1970-01-01 00:00 UTC."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MICROSECONDS_PER_SECOND = 1e6

_MICROSECOND = timedelta(microseconds=1)


def to_datetime(instant: Instant) -> datetime:
    """Return an instant as an aware datetime in UTC."""
    return EPOCH + timedelta(microseconds=instant)


def from_datetime(moment: datetime) -> Instant:
    """Return an aware datetime as an instant."""
    return (moment - EPOCH) // _MICROSECOND


def to_iso_8601(value: object) -> str:
    """Return a date or time as text, for `default` of `json.dumps`; else raise `TypeError`."""
    if isinstance(value, date | time_of_day):
        return value.isoformat()
    raise TypeError(f"got {value!r}; expected a value of JSON, a date or a time")


def to_microseconds(duration: timedelta) -> int:
    """Return a duration in microseconds."""
    return duration // _MICROSECOND


def parse_age(text: str) -> timedelta:
    """Return the time that a text like "30d" stands for; raise ValueError for any other text."""
    match = re.fullmatch(r"(\d{1,5})([smhd])", text, re.ASCII)
    if match is None:
        raise ValueError(f"got {text[:60]!r}; expected a time like 30d, 12h, 90m or 45s")
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
    return timedelta(**{unit: int(match[1])})


def from_seconds(seconds: float) -> int:
    """Return a number of seconds in microseconds, rounded."""
    return round(seconds * MICROSECONDS_PER_SECOND)


def to_timedelta(microseconds: float) -> timedelta:
    """Return a number of microseconds as a duration, rounded to a whole one."""
    return timedelta(microseconds=microseconds)


@overload
def to_seconds(microseconds: float) -> float: ...
@overload
def to_seconds(microseconds: "NDArray[np.integer]") -> "NDArray[np.float64]": ...
def to_seconds(microseconds: Any) -> Any:
    """Return microseconds, one number or an array of them, in seconds."""
    return microseconds / MICROSECONDS_PER_SECOND


@overload
def to_real_seconds(microseconds: float, speed: float) -> float: ...
@overload
def to_real_seconds(microseconds: "NDArray[np.integer]", speed: float) -> "NDArray[np.float64]": ...
def to_real_seconds(microseconds: Any, speed: float) -> Any:
    """Return microseconds of a run's clock, one number or an array of them, in real seconds."""
    return microseconds / (MICROSECONDS_PER_SECOND * speed)


def to_run_microseconds(duration: timedelta, speed: float) -> int:
    """Return how many microseconds pass on a run's clock during a real duration."""
    return int(duration / _MICROSECOND * speed)


class Clock(Protocol):
    """A source of the current time."""

    def now(self) -> Instant:
        """Return the current instant."""
        ...

    def at(self, real: Instant) -> Instant:
        """Return the instant that this clock shows at an instant of real time."""
        ...


@dataclass(frozen=True)
class SystemClock:
    """The computer's own clock."""

    def now(self) -> Instant:
        """Return the current instant."""
        return time.time_ns() // 1000

    def at(self, real: Instant) -> Instant:
        """Return the instant itself."""
        return real


@dataclass(frozen=True)
class ScaledClock:
    """A run's clock. It runs `speed` times as fast as the computer's.

    Attributes:
        start: the instant that this clock shows at its start.
        speed: microseconds of this clock per real microsecond.
        ahead: microseconds by which a fault has put this clock forward since.
        real_start: the real instant of its start.
    """

    start: Instant
    speed: float
    ahead: int
    real_start: Instant

    def now(self) -> Instant:
        """Return the current instant of the run."""
        return self.at(SystemClock().now())

    def at(self, real: Instant) -> Instant:
        """Return the instant of the run at an instant of real time."""
        return self.start + self.ahead + int((real - self.real_start) * self.speed)


def make_clock(
    start: Instant, speed: float, ahead: int = 0, real_start: Instant | None = None
) -> Clock:
    """Return the clock of a run; see `ScaledClock` for the parameters.

    Without `real_start` the clock shows the real time at its start.
    """
    real_start = start if real_start is None else real_start
    if speed == 1 and not ahead and start == real_start:
        return SystemClock()
    return ScaledClock(start, speed, ahead, real_start)
