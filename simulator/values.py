"""Value types of scenario files, shared by the file's tables and the simulated world.

A type parses the notation of the file. It refuses any other value with a message of the form
"got X; expected Y".
"""

import re
from datetime import datetime, timedelta
from math import inf, isfinite
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

from tracker.bounces import MAX_BOUNCE_LIMIT
from tracker.clock import to_microseconds
from tracker.store.schema.integers import MAX_INTEGER
from tracker.text import MAX_TITLE_LENGTH, validate_title

MAX_DURATION = timedelta(days=365)

MIN_RATE, MAX_RATE = 0.001, 10_000_000
"""Messages per second: one in a quarter of an hour, and more than any broker takes."""

MAX_LIST_NAME_CHARACTERS = 200
"""Characters of the name of an organization that keeps a list; it is a part of a database's key."""

MAX_VALUE_CHARACTERS = 60
"""Characters of a wrong value that an error shows."""

DURATION_EXAMPLES = 'a duration like "800ms", "4s" or "2m"'

_NUMBER_PATTERN = re.compile(r"\d+(?:_\d+)*(?:\.\d+)?(?:e[+-]?\d+)?", re.ASCII)
_DURATION_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)", re.ASCII)
_DURATION_UNITS = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


CLOCK_TIME_EXAMPLE = "a date and time, such as 2026-12-24T18:00:00+05:30"

EARLIEST_CLOCK_YEAR, LATEST_CLOCK_YEAR = 2021, 2098
"""Years of a run's clock: the coupons of generated customers have expired before, or do after."""


class InvalidKey(ValueError):
    """A value is wrong whose key lies below the table that is being validated."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message


def format_value(value: object) -> str:
    """Return a value as it may stand in the file, cut to `MAX_VALUE_CHARACTERS`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[:MAX_VALUE_CHARACTERS]}…"


def parse_duration(value: object) -> timedelta:
    """Return the duration that a text like "4s" stands for, or raise ValueError."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION_PATTERN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"got {format_value(value)}; expected {DURATION_EXAMPLES}")
    amount, unit = float(match[1]), _DURATION_UNITS[match[2]]
    if amount > MAX_DURATION / unit:
        raise ValueError(f"got {format_value(value)}; expected at most {MAX_DURATION.days} days")
    return amount * unit


def parse_positive_duration(value: object) -> timedelta:
    """Return the duration that a text like "4s" stands for; raise ValueError if it is 0."""
    duration = parse_duration(value)
    if not duration:
        raise ValueError(f"got {format_value(value)}; expected a duration above 0")
    return duration


def format_duration(duration: timedelta) -> str:
    """Return a duration as a scenario file says it, in the largest unit that leaves no rest."""
    for name, unit in reversed(_DURATION_UNITS.items()):
        if not duration % unit and duration >= unit:
            return f"{duration // unit}{name}"
    return f"{to_microseconds(duration)}us" if duration else "0s"


def parse_number(text: str) -> float | None:
    """Return the number that a text like "10_000" stands for, or None. It is 0 or more."""
    number = float(text.replace("_", "")) if _NUMBER_PATTERN.fullmatch(text) else inf
    return number if isfinite(number) else None


def parse_share(text: str) -> float | None:
    """Return the share that a text like "0.9" or "90 %" stands for, or None."""
    number = parse_number(text.removesuffix("%").rstrip())
    if number is not None and text.endswith("%"):
        number /= 100
    return number if number is not None and number <= 1 else None


def validate_text(value: str) -> str:
    """Return a string, or raise ValueError if it is empty or can't be stored."""
    if not value or "\0" in value:
        raise ValueError(f"got {value!r}; expected a non-empty string without NUL characters")
    return value


def validate_list_name(name: str) -> str:
    """Return the name of an organization that keeps a list, or raise ValueError if it can't."""
    if len(name) > MAX_LIST_NAME_CHARACTERS:
        raise ValueError(
            f"got an organization whose name has {len(name)} characters; expected at most"
            f" {MAX_LIST_NAME_CHARACTERS}"
        )
    return validate_text(name)


def parse_rate(value: object) -> float:
    """Return a rate in messages per second, or raise ValueError. 0 is a pause."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"got {format_value(value)}; expected messages per second, like 2_000")
    if value and not MIN_RATE <= value <= MAX_RATE:
        raise ValueError(
            f"got {format_value(value)}; expected {MIN_RATE} to {MAX_RATE:,} messages per second"
        )
    return float(value)


def parse_positive_rate(value: object) -> float:
    """Return a rate above 0 in messages per second, or raise ValueError."""
    rate = parse_rate(value)
    if not rate:
        raise ValueError("got 0; expected more than 0 messages per second")
    return rate


def parse_clock_time(value: object) -> datetime:
    """Return a date and time with an offset from UTC, or raise ValueError."""
    if not isinstance(value, datetime):
        raise ValueError(f"got {format_value(value)}; expected {CLOCK_TIME_EXAMPLE}")
    if value.tzinfo is None:
        raise ValueError(
            f"got {value.isoformat()} without an offset from UTC; expected {CLOCK_TIME_EXAMPLE}"
        )
    if not EARLIEST_CLOCK_YEAR <= value.year <= LATEST_CLOCK_YEAR:
        raise ValueError(
            f"got the year {value.year}; expected {EARLIEST_CLOCK_YEAR} to {LATEST_CLOCK_YEAR}"
        )
    return value


DURATION_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^{_DURATION_PATTERN.pattern}$"})
_RATE_SCHEMA = WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_RATE})
_POSITIVE_RATE_SCHEMA = WithJsonSchema({"type": "number", "minimum": MIN_RATE, "maximum": MAX_RATE})
_DURATION_JSON = PlainSerializer(format_duration, return_type=str, when_used="json")

Duration = Annotated[timedelta, BeforeValidator(parse_duration), _DURATION_JSON, DURATION_SCHEMA]
PositiveDuration = Annotated[
    timedelta, BeforeValidator(parse_positive_duration), _DURATION_JSON, DURATION_SCHEMA
]
ClockTime = Annotated[
    datetime,
    PlainValidator(parse_clock_time),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Rate = Annotated[float, BeforeValidator(parse_rate), _RATE_SCHEMA]
PositiveRate = Annotated[float, BeforeValidator(parse_positive_rate), _POSITIVE_RATE_SCHEMA]
Share = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(ge=1, le=MAX_INTEGER, strict=True)]
BounceLimit = Annotated[int, Field(ge=1, le=MAX_BOUNCE_LIMIT, strict=True)]
Title = Annotated[
    str,
    AfterValidator(validate_title),
    Field(strict=True, json_schema_extra={"minLength": 1, "maxLength": MAX_TITLE_LENGTH}),
]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class ScenarioSection(BaseModel):
    """A table of a scenario file. It is immutable and refuses unknown keys.

    What the database stores of a section uses the keys and the notation of the file. The docstring
    of a key is its description in the reference and in the JSON Schema: docs/scenario_schema.py
    reads it from the source, because pydantic would do that at each start.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)
