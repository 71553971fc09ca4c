"""The scenario file, parsed and checked once: what :func:`load_scenario` returns makes sense."""

import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from simulator.customer_file import CustomerRecord, check_header, read_customers
from simulator.fates import Behaviour
from simulator.labels import PLANTABLE, why_not_plantable
from tracker.errors import UsageError
from tracker.status import Channel, Reason

MOST_MESSAGES = 100_000_000
"""More messages than a campaign can sensibly have: a slip of the keyboard."""

LONGEST = timedelta(days=365)
"""No latency is longer."""

MOST_SHOWN = 60
"""Characters of a wrong value that are shown."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h)")
_UNITS = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
}
_REQUIREMENT = re.compile(r"coupon|last_store|profile|membership|(tag|field):\S.*")


class InvalidScenario(UsageError):
    """The scenario file does not describe something that can be run."""


def _duration(value: object) -> timedelta:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{_shown(value)} is no duration; expected one like "800ms", "4s" or "2m"')
    amount, unit = float(match[1]), _UNITS[match[2]]
    if amount > LONGEST / unit:
        raise ValueError(f"{value} is longer than {LONGEST.days} days")
    return amount * unit


def _audience(value: object) -> int | Path:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MOST_MESSAGES:
            raise ValueError(
                f"{value:,} is out of range; expected 1 to {MOST_MESSAGES:,} customers"
            )
        return value
    if not isinstance(value, str):
        raise ValueError(
            f'{_shown(value)} is no audience; expected a number or a file like "customers.csv"'
        )
    if not value or "\0" in value:
        raise ValueError(f"{value!r} is not the name of a file")
    return Path(value)


def _text(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError(f"{value!r} is not a text that can be shown")
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Share = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Section(BaseModel):
    """A table of the file. Keys that it does not name are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MessageLimit(Section):
    count: Count
    days: Count


class Organization(Section):
    name: Annotated[str, AfterValidator(_text)] = "Acme Retail"
    enabled: Annotated[bool, Field(strict=True)] = True
    credit: Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)] | None = None
    message_limit: MessageLimit | None = None
    hard_bounce_limit: Count = 1
    soft_bounce_limit: Count = 3


class Campaign(Section):
    name: Name
    channel: Channel
    audience: Annotated[int | Path, PlainValidator(_audience)]
    requires: tuple[str, ...] = ()
    defects: dict[str, Share] = {}

    @field_validator("requires")
    @classmethod
    def _known_requirements(cls, requires: tuple[str, ...]) -> tuple[str, ...]:
        for each in requires:
            if _REQUIREMENT.fullmatch(each) is None:
                raise ValueError(
                    f"{each!r} is not known; expected coupon, last_store, profile, membership,"
                    " tag:NAME or field:NAME"
                )
        return requires

    @model_validator(mode="after")
    def _defects_fit(self) -> Self:
        if self.defects and isinstance(self.audience, Path):
            raise ValueError("defects are planted in generated audiences only, not in a file")
        for slug in self.defects:
            if slug not in {reason.slug for reason in PLANTABLE}:
                raise ValueError(
                    f"defects.{slug}: no customer can be made to fail for that reason"
                    + _near(slug, [reason.slug for reason in PLANTABLE])
                )
            why_not = why_not_plantable(Reason[slug.upper()], self.channel, self.requires)
            if why_not:
                raise ValueError(f"defects.{slug}: {why_not}")
        _add_up("defects", self.defects)
        return self


class Latency(Section):
    median: Duration
    p99: Duration

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.p99 < self.median:
            raise ValueError("p99 is below the median")
        if self.p99 and not self.median:
            raise ValueError("the median is 0 and p99 is not; expected both above 0, or neither")
        return self


class Gateway(Section):
    latency: Latency = Latency.model_construct(median=timedelta(), p99=timedelta())
    hard_bounce: Share = 0.0
    soft_bounce: Share = 0.0
    not_delivered: Share = 0.0
    attempts: Annotated[int, Field(ge=1, le=100, strict=True)] = 3
    rate: Count | None = None

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        outcomes = ("hard_bounce", "soft_bounce", "not_delivered")
        _add_up(", ".join(outcomes), {each: getattr(self, each) for each in outcomes})
        return self

    @property
    def behaviour(self) -> Behaviour:
        return Behaviour(
            median=self.latency.median,
            p99=self.latency.p99,
            hard_bounce=self.hard_bounce,
            soft_bounce=self.soft_bounce,
            not_delivered=self.not_delivered,
            attempts=self.attempts,
        )


class Engagement(Section):
    open: Share = 0.0
    click: Share = 0.0
    spam: Share = 0.0
    unsubscribe: Share = 0.0


class Clock(Section):
    speed: Annotated[float, Field(gt=0, le=100_000, strict=True)] = 1.0


class Scenario(Section):
    """What to simulate. ``path`` is the file it came from, ``text`` its contents."""

    path: Path = Field(exclude=True)
    text: str = Field(exclude=True)
    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    organization: Organization = Organization()
    campaigns: tuple[Campaign, ...]
    gateways: dict[Channel, Gateway] = {}
    engagement: dict[Channel, Engagement] = {}
    clock: Clock = Clock()

    @field_validator("campaigns")
    @classmethod
    def _names_differ(cls, campaigns: tuple[Campaign, ...]) -> tuple[Campaign, ...]:
        if not campaigns:
            raise ValueError("is empty; expected at least one")
        names = [campaign.name for campaign in campaigns]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two campaigns are called {name!r}; expected different names")
        return campaigns

    @field_validator("engagement")
    @classmethod
    def _by_email(cls, engagement: dict[Channel, Engagement]) -> dict[Channel, Engagement]:
        if Channel.SMS in engagement:
            raise ValueError("sms has no engagement; expected email")
        return engagement

    def gateway(self, channel: Channel) -> Gateway:
        """How the gateway of a channel behaves."""
        return self.gateways.get(channel, Gateway())

    @property
    def without_effect(self) -> list[str]:
        """Keys that are understood, but change nothing in this version."""
        keys = [f"gateways.{name}.rate" for name, each in self.gateways.items() if each.rate]
        keys += [f"engagement.{name}" for name in self.engagement]
        if self.organization.message_limit:
            keys.append("organization.message_limit")
        return keys


def load_scenario(path: Path, *, seed: int | None = None) -> Scenario:
    """The scenario in a file, with its audience files' headers checked; ``seed`` replaces its own.

    Raises :exc:`InvalidScenario` that names the file, the key and what was expected.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        raw = tomllib.loads(text)
    except OSError as error:
        raise InvalidScenario(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidScenario(f"{path}: is not UTF-8 text") from None
    except RecursionError:
        raise InvalidScenario(f"{path}: is not TOML: lists in lists without end") from None
    except ValueError as error:  # also a number longer than Python cares to read
        raise InvalidScenario(f"{path}: is not TOML: {error}") from None
    if seed is not None:
        raw["seed"] = seed
    for reserved in ("path", "text"):
        if reserved in raw:
            raise InvalidScenario(f"{path}: {reserved}: unknown key")
    try:
        scenario = Scenario(path=path, text=text, **raw)
    except ValidationError as error:
        problems = [_explain(problem) for problem in _distinct(error.errors())]
        raise InvalidScenario("\n".join(f"{path}: {problem}" for problem in problems)) from None
    for place, campaign in enumerate(scenario.campaigns):
        if isinstance(campaign.audience, Path):
            try:
                check_header(path.parent / campaign.audience)
                _check_somebody(path.parent / campaign.audience)
            except UsageError as error:
                raise InvalidScenario(f"{path}: campaigns[{place}].audience: {error}") from None
    return scenario


def _check_somebody(file: Path) -> None:
    if not any(isinstance(read, CustomerRecord) for read in read_customers(file)):
        raise UsageError(f"{file}: no row could be read as a customer")


def _add_up(what: str, shares: Mapping[str, float]) -> None:
    total = sum(shares.values())
    if total > 1 + 1e-9:
        raise ValueError(f"{what}: the shares add up to {total:g}; expected no more than 1")


def _shown(value: object) -> str:
    """A value as it may have stood in the file, cut short."""
    shown = repr(value) if isinstance(value, str | int | float) else str(value)
    return shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}…"


def _near(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=3)
    return (
        f"; did you mean {' or '.join(near)}?" if near else f"; expected one of {', '.join(known)}"
    )


def _distinct(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """One problem a key."""
    return list({_key(error): error for error in reversed(errors)}.values())[::-1]


def _key(error: ErrorDetails) -> str:
    key = ""
    for part in error["loc"]:
        if isinstance(part, int):
            key += f"[{part}]"
        elif part != "[key]":
            key += f".{part}" if key else str(part)
    return key


def _explain(error: ErrorDetails) -> str:
    key, value, context = _key(error), error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key{_near(str(error['loc'][-1]), _known_keys(error['loc']))}"
        case "missing":
            return f"{key}: is missing"
        case "value_error":
            message = str(context["error"])
            return f"{key}: {message}" if key else message
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            limit = next(iter(context.values()))
            relation = error["type"].replace("_", " ").replace("than equal", "than or equal to")
            if limit in (0.0, 1.0) and isinstance(limit, float) and "equal" in relation:
                return f"{key}: {value!r} is out of range; expected a share from 0 to 1"
            return f"{key}: {value!r} is out of range; expected a number {relation} {limit:,}"
        case "float_type" | "float_parsing":
            return f"{key}: {_shown(value)} is not a number"
        case "int_type" | "int_from_float" | "int_parsing":
            return f"{key}: {_shown(value)} is not a whole number"
        case "bool_type":
            return f"{key}: {_shown(value)} is neither true nor false"
        case "string_type":
            return f"{key}: {_shown(value)} is not a text"
        case "string_pattern_mismatch":
            return (
                f"{key}: {_shown(value)} is not a name;"
                " expected letters, digits, dots, dashes and underscores, 100 at most"
            )
        case "enum" | "literal_error":
            return f"{key}: {_shown(value)} is not known; expected {context['expected']}"
        case "too_short":
            return f"{key}: is empty; expected at least one"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{key}: {_shown(value)} is not a table"
        case "tuple_type":
            return f"{key}: {_shown(value)} is not a list"
        case _:
            return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    """The keys of the table that ``place`` lies in."""
    section: type[BaseModel] = Scenario
    for part in place[:-1]:
        field = section.model_fields.get(str(part))
        section = next(iter(_models_in(field.annotation if field else section)), section)
    return [key for key in section.model_fields if key not in ("path", "text")]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
