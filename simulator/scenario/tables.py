"""All tables of a scenario file together."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from simulator.audience.formats import AudienceSection
from simulator.figures import RESERVED_NAMES
from simulator.scenario.faults import FaultSection
from simulator.scenario.gateways import GatewaySection
from simulator.scenario.organizations import OrganizationSection
from simulator.scenario.sections import CampaignSection, ClockSection, CouponSeriesSection
from simulator.scenario.thresholds import ThresholdSection, expand_thresholds
from simulator.values import Name, PositiveDuration, ScenarioSection
from simulator.world.behaviour import EngagementRates, ServiceFailures
from tracker.record.catalog import DEFAULT_DEFER_AT_MOST
from tracker.status import Channel
from workers.services.base import ServiceName


class ScenarioFile(ScenarioSection):
    """A scenario: the load of a run and the world around the workers.

    Names by which the tables refer to each other are checked when the campaigns are planned.
    """

    name: Annotated[Name, Field(examples=["festive-sale"])]
    """Name of the scenario."""
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True, examples=[42])] = 0
    """Seed of all draws. The same seed gives every message the same outcome."""
    organization: OrganizationSection = OrganizationSection()
    """Organization of campaigns that name no other."""
    organizations: dict[Name, OrganizationSection] = Field(default_factory=dict)
    """Other organizations by their names, which campaigns refer to."""
    campaigns: tuple[CampaignSection, ...]
    """Campaigns, at least one."""
    gateways: dict[Name, GatewaySection] = Field(default_factory=dict)
    """Gateways by name: `email` and `sms` for all campaigns of the channel, or names that campaigns
    refer to."""
    coupon_series: dict[Name, CouponSeriesSection] = Field(default_factory=dict)
    """Coupon series by their names, which campaigns refer to."""
    services: dict[ServiceName, ServiceFailures] = Field(default_factory=dict)
    """Failures of the services that the workers call."""
    engagement: dict[Channel, EngagementRates] = Field(default_factory=dict)
    """What recipients do with delivered messages; `email` is the only channel with engagement."""
    rules: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    """Settings of installed rules, by the rule's name. Each rule reads its own; its package
    documents them."""
    defer_at_most: Annotated[PositiveDuration, Field(examples=["12h"])] = DEFAULT_DEFER_AT_MOST
    """Longest time for which rules may defer a message, on the run's clock. It begins with the
    first deferral. If a rule defers the message again after that, it ends as `custom_rule`."""
    clock: ClockSection = ClockSection()
    """The run's clock."""
    faults: tuple[FaultSection, ...] = ()
    """Faults that are injected into the stack during the run."""
    thresholds: Annotated[dict[str, ThresholdSection], BeforeValidator(expand_thresholds)] = Field(
        default_factory=dict
    )
    """Conditions on figures of the result, which decide whether the run passes."""
    expect: Annotated[
        dict[str, Annotated[str, Field(strict=True)]],
        Field(examples=[{"hold_out.blocked": "930..960"}]),
    ] = Field(default_factory=dict)
    """How many messages installed rules must block: `"RULE.blocked"`, or `"CAMPAIGN.RULE.blocked"`
    for one campaign, with a range or a condition like `"== 940"`. A miss gives exit code
    99, like a missed threshold."""

    @field_validator("campaigns")
    @classmethod
    def _validate_campaign_names(
        cls, campaigns: tuple[CampaignSection, ...]
    ) -> tuple[CampaignSection, ...]:
        if not campaigns:
            raise ValueError("got an empty array; expected at least one campaign")
        names = [campaign.name for campaign in campaigns]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(f"got two campaigns named {name!r}; expected different names")
            if name in RESERVED_NAMES:
                raise ValueError(f"got the name of a figure, {name!r}; expected another name")
        return campaigns

    @field_validator("engagement")
    @classmethod
    def _validate_engagement_channels(
        cls, engagement: dict[Channel, EngagementRates]
    ) -> dict[Channel, EngagementRates]:
        if Channel.SMS in engagement:
            raise ValueError("got sms; expected email, the only channel with engagement")
        return engagement

    def with_audience(self, audience: Path) -> "ScenarioFile":
        """Return the file with an audience file in place of the customers of all campaigns."""
        section = AudienceSection(file=str(audience))
        campaigns = tuple(
            campaign.model_copy(update={"audience": section, "defects": {}})
            for campaign in self.campaigns
        )
        return self.model_copy(update={"campaigns": campaigns})
