"""The tables of a scenario file, checked one at a time."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from simulator.audience.formats import AudienceSection
from simulator.scenario.load import LoadSection
from simulator.scenario.message import MessageSection
from simulator.validation_errors import parse_table
from simulator.values import (
    ClockTime,
    Flag,
    InvalidKey,
    Name,
    ScenarioSection,
    Share,
    Title,
    format_value,
    validate_text,
)
from simulator.world.behaviour import validate_share_sum
from simulator.world.defects import PLANTABLE_REASONS
from simulator.world.services import SIMULATED_SERVICES_KIND
from tracker.clock import Instant, SystemClock, from_datetime
from tracker.settings import to_local_time
from tracker.status import Channel
from tracker.text import suggest_similar
from workers.checks.validation import validate_requirements

MAX_CAMPAIGN_MESSAGES = 100_000_000
"""Messages of a campaign; a larger number is a typing error."""

PLANTABLE_SLUGS = tuple(reason.slug for reason in PLANTABLE_REASONS)

AUDIENCE_EXAMPLES = (
    'a number, a file like "customers.csv" or { file = "crm.csv" }, or { same_as = "CAMPAIGN" }'
)


@dataclass(frozen=True)
class SameAs:
    """The audience of an earlier campaign: the same customers."""

    campaign: str


class GeneratedSection(ScenarioSection):
    """Customers to generate, with a title."""

    customers: Annotated[int, Field(ge=1, le=MAX_CAMPAIGN_MESSAGES, strict=True)]
    title: Title


def _parse_audience(value: object) -> int | GeneratedSection | AudienceSection | SameAs:
    match value:
        case SameAs() | AudienceSection() | GeneratedSection():
            return value
        case {"customers": _}:
            return parse_table(GeneratedSection, value)
        case {"same_as": str(campaign), **rest} if not rest:
            return SameAs(campaign)
        case bool() | float():
            pass
        case int() if 1 <= value <= MAX_CAMPAIGN_MESSAGES:
            return value
        case int():
            raise ValueError(f"got {value:,}; expected 1 to {MAX_CAMPAIGN_MESSAGES:,} customers")
        case str():
            return AudienceSection(file=validate_text(value))
        case {"file": _}:
            return parse_table(AudienceSection, value)
    raise ValueError(f"got {format_value(value)}; expected {AUDIENCE_EXAMPLES}")


def _parse_expected_file(value: object) -> Path | None:
    match value:
        case None | Path():
            return value
        case str():
            return Path(validate_text(value))
    raise ValueError(f'got {format_value(value)}; expected a file like "expected.csv"')


class CampaignSection(ScenarioSection):
    """A campaign: one message to one audience over one channel.

    Campaigns run concurrently unless one comes `after` another.
    """

    name: Annotated[Name, Field(examples=["spring-email"])]
    """Name of the campaign; different from those of other campaigns and of figures."""
    title: Annotated[Title | None, Field(examples=["Diwali – Festive Sale 2026 (SMS)"])] = None
    """What people read beside the name, in any script."""
    channel: Annotated[Channel, Field(examples=["email"])]
    """Channel of the messages."""
    audience: Annotated[
        int | GeneratedSection | AudienceSection | SameAs,
        PlainValidator(_parse_audience),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 1, "maximum": MAX_CAMPAIGN_MESSAGES},
                    {"type": "string", "minLength": 1},
                    {
                        "type": "object",
                        "properties": {"same_as": {"type": "string"}},
                        "required": ["same_as"],
                        "additionalProperties": False,
                    },
                    {
                        "type": "object",
                        "properties": {
                            "customers": {"type": "integer", "minimum": 1},
                            "title": {"type": "string"},
                        },
                        "required": ["customers", "title"],
                        "additionalProperties": False,
                    },
                ]
            }
        ),
        Field(
            examples=[
                10_000,
                "customers.csv",
                {"file": "crm.csv", "mapping": "crm.mapping.toml"},
                {"same_as": "spring-email"},
                {"customers": 10_000, "title": "Everybody"},
            ]
        ),
    ]
    """Customers of the campaign: a number of customers to generate, an audience file beside the
    scenario file (a table if it isn't ours), or the same customers as those of an earlier
    campaign."""
    after: Annotated[str | None, Field(examples=["newsletter"])] = None
    """Earlier campaign that must settle before this one begins."""
    organization: Annotated[str | None, Field(examples=["prepaid"])] = None
    """Organization that sends the campaign, a key of `organizations`; default: `[organization]`."""
    gateway: Annotated[str | None, Field(examples=["retired"])] = None
    """Gateway of the campaign, a key of `gateways`; default: the key that is the channel."""
    kind: Annotated[Name, Field(examples=["promotion"])] = "promotion"
    """Handler that prepares the messages. A kind without an installed handler blocks them all."""
    services: Annotated[str, Field(examples=["sql"])] = SIMULATED_SERVICES_KIND
    """Installed services that the workers ask about customers: `simulated`, `sql` (without
    failures), or those of another package, from which the answers on record are expected."""
    sender: Annotated[str | None, Field(examples=["Acme Sale"])] = None
    """Sender of the messages; default: the organization's sender on the channel. An empty sender is
    a wrong configuration."""
    coupon_series: Annotated[str | None, Field(examples=["spring"])] = None
    """Series of the campaign's coupons, a key of `coupon_series`; default: a series that is
    active."""
    requires: Annotated[
        tuple[str, ...], Field(examples=[["coupon", "last_store", "tag:city"]])
    ] = ()
    """What every customer needs: `coupon`, `referral`, `membership`, `last_store`, `profile`,
    `tag:NAME` or `field:NAME`."""
    defects: Annotated[
        dict[str, Share],
        WithJsonSchema(
            {
                "type": "object",
                "propertyNames": {"enum": PLANTABLE_SLUGS},
                "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
            }
        ),
        Field(examples=[{"unsubscribed": 0.03, "email_missing": 0.01}]),
    ] = Field(default_factory=dict)
    """Share of generated customers that get a defect, by the reason for which it blocks the
    message. A customer has one defect at most."""
    expect: Annotated[
        Path | None,
        BeforeValidator(_parse_expected_file),
        WithJsonSchema({"type": "string", "minLength": 1}),
        Field(examples=["expected.csv"]),
    ] = None
    """File of expected outcomes beside the scenario file: CSV with the columns `customer_id` and
    `expected`, which is `sent` or the slug of a reason. A miss gives exit code 99."""
    load: Annotated[
        LoadSection,
        Field(examples=[{"start": "10s", "shape": {"constant": 2_000}}]),
    ] = LoadSection()
    """When the messages arrive."""
    message: MessageSection | None = None
    """Content of the messages; default: the campaign's title. Gateways that aren't simulated send
    it."""

    @property
    def is_generated(self) -> bool:
        """True if the campaign generates its customers."""
        return isinstance(self.audience, int | GeneratedSection)

    @property
    def same_as(self) -> str | None:
        """The campaign whose audience this one uses, if the file says so."""
        return self.audience.campaign if isinstance(self.audience, SameAs) else None

    @field_validator("requires")
    @classmethod
    def _validate_requirements(cls, requires: tuple[str, ...]) -> tuple[str, ...]:
        return validate_requirements(requires)

    @field_validator("defects")
    @classmethod
    def _validate_defect_shares(cls, defects: dict[str, float]) -> dict[str, float]:
        validate_share_sum("shares", defects.values())
        return defects

    @model_validator(mode="after")
    def _validate_defects(self) -> Self:
        if self.defects and not self.is_generated:
            raise InvalidKey(
                "defects",
                "only allowed with audience = NUMBER, because defects are planted in generated"
                " customers",
            )
        for slug in self.defects:
            if slug not in PLANTABLE_SLUGS:
                raise InvalidKey(
                    f"defects.{slug}", f"unknown defect{suggest_similar(slug, PLANTABLE_SLUGS)}"
                )
        return self

    @model_validator(mode="after")
    def _validate_message(self) -> Self:
        if self.message is not None:
            try:
                self.message.validate_channel(self.channel)
            except InvalidKey as error:
                raise InvalidKey(f"message.{error.key}", error.message) from None
        return self


class CouponSeriesSection(ScenarioSection):
    """Coupons that are issued together."""

    active: Annotated[Flag, Field(examples=[False])] = True
    """Whether coupons of the series can be issued. Otherwise the series blocks all messages."""


class ClockSection(ScenarioSection):
    """The run's clock."""

    speed: Annotated[float, Field(gt=0, le=100_000, strict=True, examples=[1440])] = 1.0
    """Simulated seconds per real second. Latencies, delays, outages and the 1 am rollup follow the
    run's clock."""
    start: Annotated[ClockTime | None, Field(examples=[datetime(2026, 12, 24, 18, tzinfo=UTC)])] = (
        None
    )
    """Date and time that the clock shows when the run starts, with its offset from UTC; default:
    the real time."""

    @property
    def start_instant(self) -> Instant | None:
        """The instant that the clock shows when the run starts; None for the real time."""
        return None if self.start is None else from_datetime(self.start)

    def begin_day(self) -> date:
        """Return the day, in the time zone of the settings, of a run that starts now."""
        now = SystemClock().now() if self.start_instant is None else self.start_instant
        return to_local_time(now).date()
