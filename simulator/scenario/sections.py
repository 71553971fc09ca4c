"""The tables that a scenario file is made of, each checked by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    field_validator,
    model_validator,
)

from simulator.figures import RESERVED_NAMES, is_known_early
from simulator.scenario.errors import shown
from simulator.scenario.faults import FaultSection
from simulator.scenario.load import LoadSection
from simulator.scenario.thresholds import (
    Threshold,
    ThresholdSection,
    expand_thresholds,
    parse_thresholds,
)
from simulator.scenario.values import (
    BounceLimit,
    Count,
    Duration,
    Name,
    ScenarioSection,
    Share,
    validate_text,
)
from simulator.world.defects import PLANTABLE_REASONS, explain_unplantable
from simulator.world.outcomes import EngagementRates, GatewayBehaviour, ReceiptFaultRates
from simulator.world.services import ServiceFailures
from tracker.record.allowance import MAX_MESSAGE_LIMIT, MAX_MESSAGE_LIMIT_DAYS
from tracker.status import Channel, Reason
from tracker.text import suggest_similar
from workers.candidates import validate_requirements
from workers.plugins import PluginGroup, list_plugin_names
from workers.services.base import ServiceName

MAX_CAMPAIGN_MESSAGES = 100_000_000
"""More messages than a campaign can sensibly have: a slip of the keyboard."""


def _validate_share_sum(what: str, shares: Mapping[str, float]) -> None:
    total = sum(shares.values())
    if total > 1 + 1e-9:
        raise ValueError(f"{what}: the shares add up to {total:g}; expected no more than 1")


@dataclass(frozen=True)
class SameAs:
    """The audience of another campaign: the same customers."""

    campaign: str


def _parse_audience(value: object) -> int | Path | SameAs:
    if isinstance(value, dict):
        if set(value) != {"same_as"} or not isinstance(value["same_as"], str):
            raise ValueError(f'{shown(value)} is no audience; expected {{ same_as = "CAMPAIGN" }}')
        return SameAs(value["same_as"])
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MAX_CAMPAIGN_MESSAGES:
            raise ValueError(
                f"{value:,} is out of range; expected 1 to {MAX_CAMPAIGN_MESSAGES:,} customers"
            )
        return value
    if not isinstance(value, str):
        raise ValueError(
            f'{shown(value)} is no audience; expected a number, a file like "customers.csv"'
            ' or { same_as = "CAMPAIGN" }'
        )
    if not value or "\0" in value:
        raise ValueError(f"{value!r} is not the name of a file")
    return Path(value)


class MessageLimitSection(ScenarioSection):
    count: Annotated[int, Field(ge=1, le=MAX_MESSAGE_LIMIT, strict=True)]
    days: Annotated[int, Field(ge=1, le=MAX_MESSAGE_LIMIT_DAYS, strict=True)]


class ChannelSection(ScenarioSection):
    """What an organization does on a channel; without a sender it uses its name."""

    enabled: Annotated[bool, Field(strict=True)] = True
    sender: str | None = None


class OrganizationSection(ScenarioSection):
    name: Annotated[str, AfterValidator(validate_text)] = "Acme Retail"
    enabled: Annotated[bool, Field(strict=True)] = True
    credit: Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)] | None = None
    message_limit: MessageLimitSection | None = None
    hard_bounce_limit: BounceLimit = 1
    soft_bounce_limit: BounceLimit = 3
    email: ChannelSection = ChannelSection()
    sms: ChannelSection = ChannelSection()

    def channel_section(self, channel: Channel) -> ChannelSection:
        return self.email if channel is Channel.EMAIL else self.sms


class CampaignSection(ScenarioSection):
    name: Name
    channel: Channel
    audience: Annotated[int | Path | SameAs, PlainValidator(_parse_audience)]
    after: str | None = None
    organization: str | None = None
    gateway: str | None = None
    kind: Name = "promotion"
    sender: str | None = None
    coupon_series: str | None = None
    requires: tuple[str, ...] = ()
    defects: dict[str, Share] = Field(default_factory=dict)
    load: LoadSection = LoadSection()

    @property
    def same_as(self) -> str | None:
        """The campaign whose customers this one is for, too."""
        return self.audience.campaign if isinstance(self.audience, SameAs) else None

    @field_validator("requires")
    @classmethod
    def _validate_requirements(cls, requires: tuple[str, ...]) -> tuple[str, ...]:
        return validate_requirements(requires)

    @model_validator(mode="after")
    def _validate_defects(self) -> Self:
        if self.defects and not isinstance(self.audience, int):
            raise ValueError("defects are planted where customers are made: audience = NUMBER")
        for slug in self.defects:
            if slug not in {reason.slug for reason in PLANTABLE_REASONS}:
                raise ValueError(
                    f"defects.{slug}: no customer can be made to fail for that reason"
                    + suggest_similar(slug, [reason.slug for reason in PLANTABLE_REASONS])
                )
            why_not = explain_unplantable(Reason[slug.upper()], self.channel, self.requires)
            if why_not:
                raise ValueError(f"defects.{slug}: {why_not}")
        _validate_share_sum("defects", self.defects)
        return self


class LatencySection(ScenarioSection):
    median: Duration
    p99: Duration

    @model_validator(mode="after")
    def _validate_order(self) -> Self:
        if self.p99 < self.median:
            raise ValueError("p99 is below the median")
        if self.p99 and not self.median:
            raise ValueError("the median is 0 and p99 is not; expected both above 0, or neither")
        return self


NO_LATENCY = LatencySection.model_construct(median=timedelta(), p99=timedelta())


class ReceiptsSection(ScenarioSection):
    """How a gateway's receipts go wrong: shares of attempts, and of what is delivered for
    ``late_bounce``."""

    duplicate: Share = 0.0
    stale: Share = 0.0
    lost: Share = 0.0
    late_bounce: Share = 0.0


class OutageSection(ScenarioSection):
    """A time, from the beginning of the run on, in which something can't be reached."""

    start: Duration = Field(alias="from")
    end: Duration = Field(alias="to")

    @model_validator(mode="after")
    def _validate_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError("it ends before it begins; expected `to` to be later than `from`")
        return self

    @property
    def span(self) -> tuple[timedelta, timedelta]:
        return self.start, self.end


class SlowSection(OutageSection):
    """A time in which latencies are ``factor`` times as long."""

    factor: Annotated[float, Field(ge=1, le=1_000_000, strict=True)]


SIMULATED_GATEWAY_KIND = "simulated"


def _validate_gateway_kind(kind: str) -> str:
    kinds = list_plugin_names(PluginGroup.GATEWAYS)
    if kind not in kinds:
        raise ValueError(f"unknown gateway {kind!r}{suggest_similar(kind, kinds)}")
    return kind


class GatewaySection(ScenarioSection):
    """What takes messages over. All but the first five keys say how a simulated one behaves."""

    kind: Annotated[str, AfterValidator(_validate_gateway_kind)] = SIMULATED_GATEWAY_KIND
    enabled: Annotated[bool, Field(strict=True)] = True
    attempts: Annotated[int, Field(ge=1, le=100, strict=True)] = 3
    rate: Count | None = None
    retry_after: Duration | None = None
    latency: LatencySection = NO_LATENCY
    hard_bounce: Share = 0.0
    soft_bounce: Share = 0.0
    not_delivered: Share = 0.0
    receipts: ReceiptsSection = ReceiptsSection()
    outage: OutageSection | None = None
    slow: SlowSection | None = None
    reject_rate: Annotated[float, Field(ge=0.0, lt=1.0, strict=True)] = 0.0

    @model_validator(mode="after")
    def _validate_shares(self) -> Self:
        outcomes = ("hard_bounce", "soft_bounce", "not_delivered")
        _validate_share_sum(", ".join(outcomes), {each: getattr(self, each) for each in outcomes})
        return self

    @model_validator(mode="after")
    def _validate_simulated_keys(self) -> Self:
        """Nobody can tell a real gateway what to do."""
        ours = {"kind", "enabled", "attempts", "rate", "retry_after"}
        told = sorted(self.model_fields_set - ours)
        if told and not self.is_simulated:
            raise ValueError(
                f"{told[0]}: is for simulated gateways, and this one is of kind {self.kind}"
            )
        return self

    @property
    def is_simulated(self) -> bool:
        return self.kind == SIMULATED_GATEWAY_KIND

    @property
    def retry_delay(self) -> timedelta:
        """How long what bounced softly waits for its next attempt: a real server wants a minute."""
        usual = timedelta() if self.is_simulated else timedelta(minutes=1)
        return usual if self.retry_after is None else self.retry_after

    @property
    def behaviour(self) -> GatewayBehaviour:
        return GatewayBehaviour(
            median=self.latency.median,
            p99=self.latency.p99,
            hard_bounce=self.hard_bounce,
            soft_bounce=self.soft_bounce,
            not_delivered=self.not_delivered,
            attempts=self.attempts,
            reject_rate=self.reject_rate,
            receipts=ReceiptFaultRates(**self.receipts.model_dump()),
        )


class EngagementSection(ScenarioSection):
    open: Share = 0.0
    click: Share = 0.0
    spam: Share = 0.0
    unsubscribe: Share = 0.0
    machine_open: Share = 0.0
    again: Share = 0.0
    delay: LatencySection = NO_LATENCY

    @model_validator(mode="after")
    def _validate_rates(self) -> Self:
        if not self.unsubscribe <= self.click <= self.open:
            raise ValueError(
                "who unsubscribes has clicked, and who clicks has opened;"
                " expected unsubscribe <= click <= open"
            )
        return self

    @property
    def rates(self) -> EngagementRates:
        return EngagementRates(
            open=self.open,
            click=self.click,
            spam=self.spam,
            unsubscribe=self.unsubscribe,
            machine_open=self.machine_open,
            again=self.again,
            median=self.delay.median,
            p99=self.delay.p99,
        )


class ServiceSection(ScenarioSection):
    """How a service fails: for a share of what it is asked, each time, and all of it for a time."""

    error_rate: Share = 0.0
    outage: OutageSection | None = None

    @property
    def failures(self) -> ServiceFailures:
        return ServiceFailures(
            error_rate=self.error_rate, outage=self.outage.span if self.outage else None
        )


class CouponSeriesSection(ScenarioSection):
    active: Annotated[bool, Field(strict=True)] = True


class ClockSection(ScenarioSection):
    speed: Annotated[float, Field(gt=0, le=100_000, strict=True)] = 1.0


class ScenarioFile(ScenarioSection):
    """The tables of a scenario file. Names by which they refer to each other are not checked."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    organization: OrganizationSection = OrganizationSection()
    organizations: dict[Name, OrganizationSection] = Field(default_factory=dict)
    campaigns: tuple[CampaignSection, ...]
    gateways: dict[Name, GatewaySection] = Field(default_factory=dict)
    coupon_series: dict[Name, CouponSeriesSection] = Field(default_factory=dict)
    services: dict[ServiceName, ServiceSection] = Field(default_factory=dict)
    engagement: dict[Channel, EngagementSection] = Field(default_factory=dict)
    clock: ClockSection = ClockSection()
    faults: tuple[FaultSection, ...] = ()
    thresholds: Annotated[dict[str, ThresholdSection], BeforeValidator(expand_thresholds)] = Field(
        default_factory=dict
    )

    @field_validator("campaigns")
    @classmethod
    def _validate_campaign_names(
        cls, campaigns: tuple[CampaignSection, ...]
    ) -> tuple[CampaignSection, ...]:
        if not campaigns:
            raise ValueError("is empty; expected at least one")
        names = [campaign.name for campaign in campaigns]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two campaigns are called {name!r}; expected different names")
            if name in RESERVED_NAMES:
                raise ValueError(f"{name!r} is the name of a figure; expected another name")
        return campaigns

    @field_validator("engagement")
    @classmethod
    def _validate_engagement_channels(
        cls, engagement: dict[Channel, EngagementSection]
    ) -> dict[Channel, EngagementSection]:
        if Channel.SMS in engagement:
            raise ValueError("sms has no engagement; expected email")
        return engagement

    def with_audience(self, audience: Path) -> "ScenarioFile":
        """Return the file with an audience file in place of the customers of all campaigns."""
        campaigns = tuple(
            campaign.model_copy(update={"audience": audience, "defects": {}})
            for campaign in self.campaigns
        )
        return self.model_copy(update={"campaigns": campaigns})

    def parse_thresholds(self) -> tuple[Threshold, ...]:
        """Return the thresholds, or raise ValueError with the figure of the first wrong one."""
        names = [campaign.name for campaign in self.campaigns]
        return parse_thresholds(
            self.thresholds, names, lambda figure: is_known_early(figure, names)
        )
