"""What the values of a scenario file are made of: durations, shares, rates, counts, names."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from simulator.scenario.errors import shown
from tracker.record.receipts import MAX_BOUNCE_LIMIT

MAX_DURATION = timedelta(days=365)
"""No latency is longer."""

MIN_RATE, MAX_RATE = 0.001, 10_000_000
"""Messages a second: one in a quarter of an hour, and more than any broker takes."""

_DURATION_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)", re.ASCII)
_DURATION_UNITS = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def parse_duration(value: object) -> timedelta:
    """A duration as a scenario says it; :exc:`ValueError` for what is none."""
    match = _DURATION_PATTERN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{shown(value)} is no duration; expected one like "800ms", "4s" or "2m"')
    amount, unit = float(match[1]), _DURATION_UNITS[match[2]]
    if amount > MAX_DURATION / unit:
        raise ValueError(f"{value} is longer than {MAX_DURATION.days} days")
    return amount * unit


def validate_text(value: str) -> str:
    """A text that is there; :exc:`ValueError` for what can't be shown."""
    if not value or "\0" in value:
        raise ValueError(f"{value!r} is not a text that can be shown")
    return value


def parse_positive_duration(value: object) -> timedelta:
    """The same, for what can't take no time."""
    found = parse_duration(value)
    if not found:
        raise ValueError(f"{value} is no time at all; expected a duration above 0")
    return found


def parse_rate(value: object) -> float:
    """Messages a second, 0 for none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shown(value)} is not a number; expected messages a second, like 2_000")
    if value and not MIN_RATE <= value <= MAX_RATE:
        raise ValueError(
            f"{value} is out of range; expected {MIN_RATE} to {MAX_RATE:,} messages a second"
        )
    return float(value)


def parse_positive_rate(value: object) -> float:
    """The same, for what has to come to an end."""
    found = parse_rate(value)
    if not found:
        raise ValueError("0 messages a second would never arrive; expected a rate above 0")
    return found


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[timedelta, BeforeValidator(parse_positive_duration)]
Rate = Annotated[float, BeforeValidator(parse_rate)]
PositiveRate = Annotated[float, BeforeValidator(parse_positive_rate)]
Share = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)]
BounceLimit = Annotated[int, Field(ge=1, le=MAX_BOUNCE_LIMIT, strict=True)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class ScenarioSection(BaseModel):
    """A table of the file. Keys that it does not name are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
