"""The scenario file, parsed and checked once: what :func:`load_scenario` returns makes sense."""

import tomllib
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from simulator.figures import RESERVED_NAMES, is_known_early
from simulator.scenario.audience_file import CustomerRecord, check_header, read_customers
from simulator.scenario.errors import format_validation_errors, shown
from simulator.scenario.faults import FaultSection
from simulator.scenario.sections import (
    Campaign,
    ClockSection,
    CouponSeriesSection,
    EngagementSection,
    GatewaySection,
    OrganizationSection,
    ServiceSection,
)
from simulator.scenario.thresholds import (
    Threshold,
    ThresholdSection,
    expand_thresholds,
    parse_thresholds,
)
from simulator.scenario.values import Name, ScenarioSection
from simulator.world.outcomes import EngagementRates
from simulator.world.services import SimulatedServicesSettings as ServiceSettings
from tracker.errors import UsageError
from tracker.status import Channel
from tracker.text import suggest_similar
from workers.gateways.base import load_gateway_kind
from workers.services.base import ServiceName


class InvalidScenario(UsageError):
    """The scenario file does not describe something that can be run."""


class Scenario(ScenarioSection):
    """What to simulate. ``path`` is the file it came from, ``text`` its contents."""

    path: Path = Field(exclude=True)
    text: str = Field(exclude=True)
    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    organization: OrganizationSection = OrganizationSection()
    organizations: dict[Name, OrganizationSection] = Field(default_factory=dict)
    campaigns: tuple[Campaign, ...]
    gateways: dict[Name, GatewaySection] = Field(default_factory=dict)
    coupon_series: dict[Name, CouponSeriesSection] = Field(default_factory=dict)
    services: dict[ServiceName, ServiceSection] = Field(default_factory=dict)
    engagement: dict[Channel, EngagementSection] = Field(default_factory=dict)
    clock: ClockSection = ClockSection()
    faults: tuple[FaultSection, ...] = ()
    threshold_sections: Annotated[
        dict[str, ThresholdSection], BeforeValidator(expand_thresholds)
    ] = Field(default_factory=dict, alias="thresholds")

    @cached_property
    def thresholds(self) -> tuple[Threshold, ...]:
        """What is demanded of the figures of the result."""
        names = [campaign.name for campaign in self.campaigns]
        return parse_thresholds(
            self.threshold_sections, names, lambda figure: is_known_early(figure, names)
        )

    @field_validator("campaigns")
    @classmethod
    def _validate_campaign_names(cls, campaigns: tuple[Campaign, ...]) -> tuple[Campaign, ...]:
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

    @model_validator(mode="after")
    def _validate_references(self) -> Self:
        earlier: list[Campaign] = []
        for place, campaign in enumerate(self.campaigns):
            for key, name, known in (
                ("audience.same_as", campaign.same_as, [each.name for each in earlier]),
                ("after", campaign.after, [each.name for each in earlier]),
                ("organization", campaign.organization, list(self.organizations)),
                ("gateway", campaign.gateway, [*self.gateways, *Channel]),
                ("coupon_series", campaign.coupon_series, list(self.coupon_series)),
            ):
                if name is not None and name not in known:
                    what = "no campaign before it" if key[0] == "a" else "none"
                    raise ValueError(
                        f"campaigns[{place}].{key}: there is {what} called {shown(name)}"
                        + suggest_similar(name, known)
                    )
            earlier.append(campaign)
            if self.organization_of(campaign) != self.organization_of(
                self.audience_owner_of(campaign)
            ):
                raise ValueError(
                    f"campaigns[{place}].audience: the customers are another organization's;"
                    " expected the same organization"
                )
        self._validate_gateways()
        self._validate_all_used()
        _ = self.thresholds  # says what is wrong with them
        return self

    def _validate_gateways(self) -> None:
        """People who were made up have no real gateway, and not every gateway serves a channel."""
        for place, campaign in enumerate(self.campaigns):
            kind = self.gateway_of(campaign).kind
            gateway = load_gateway_kind(kind)
            if campaign.channel not in gateway.channels:
                raise ValueError(
                    f"campaigns[{place}].channel: the gateway {kind} takes no {campaign.channel}"
                )
            if gateway.reaches_people and isinstance(
                self.audience_owner_of(campaign).audience, int
            ):
                raise ValueError(
                    f"campaigns[{place}].audience: the customers are made up, and the gateway"
                    f" {kind} reaches people outside; expected a file"
                )

    def _validate_all_used(self) -> None:
        """A name that nobody uses is a slip of the keyboard."""
        for key, there, used in (
            ("organizations", self.organizations, {each.organization for each in self.campaigns}),
            ("gateways", self.gateways, {*Channel, *(each.gateway for each in self.campaigns)}),
            ("coupon_series", self.coupon_series, {each.coupon_series for each in self.campaigns}),
        ):
            for name in there:
                if name not in used:
                    raise ValueError(f"{key}.{name}: no campaign uses it")

    def organization_of(self, campaign: Campaign) -> OrganizationSection:
        """Who sends a campaign."""
        named = campaign.organization
        return self.organization if named is None else self.organizations[named]

    @property
    def has_message_limits(self) -> bool:
        """Whether any organization limits how many messages a customer may have."""
        organizations = (self.organization_of(campaign) for campaign in self.campaigns)
        return any(each.message_limit is not None for each in organizations)

    def gateway_of(self, campaign: Campaign) -> GatewaySection:
        """What takes a campaign's messages over: the gateway that it names, or its channel's."""
        return self.gateways.get(campaign.gateway or campaign.channel, GatewaySection())

    @property
    def network_gateways(self) -> list[str]:
        """The kinds of gateways in use that reach people outside."""
        kinds = {self.gateway_of(campaign).kind for campaign in self.campaigns}
        return sorted(kind for kind in kinds if load_gateway_kind(kind).reaches_people)

    def has_active_series(self, campaign: Campaign) -> bool:
        """Whether a campaign's coupons can be given out; without a name they always can."""
        named = campaign.coupon_series
        return named is None or self.coupon_series[named].active

    def engagement_rates_of(self, campaign: Campaign) -> EngagementRates:
        """What the recipients of a campaign do with it."""
        return self.engagement.get(campaign.channel, EngagementSection()).rates

    def can_engage(self, campaign: Campaign) -> bool:
        """Whether anybody may do anything with a campaign: addresses in a file may force it."""
        by_email = campaign.channel is Channel.EMAIL and self.gateway_of(campaign).is_simulated
        imported = isinstance(self.audience_owner_of(campaign).audience, Path)
        return by_email and (imported or self.engagement_rates_of(campaign).has_engagement)

    def audience_owner_of(self, campaign: Campaign) -> Campaign:
        """The campaign for which a campaign's customers were made or imported.

        Campaigns of one organization that name one file share its customers.
        """
        while campaign.same_as is not None:
            campaign = self.campaign(campaign.same_as)
        if isinstance(campaign.audience, int):
            return campaign
        return next(
            each
            for each in self.campaigns
            if (each.audience, each.organization) == (campaign.audience, campaign.organization)
        )

    def campaigns_sharing_audience(self, owner: Campaign) -> list[Campaign]:
        """The campaigns that are for the customers of one of them, in the order of the file."""
        return [each for each in self.campaigns if self.audience_owner_of(each) == owner]

    @property
    def services_without_outages(self) -> dict[ServiceName, ServiceSection]:
        return {
            name: each.model_copy(update={"outage": None}) for name, each in self.services.items()
        }

    def audience_file_of(self, campaign: Campaign) -> Path:
        """The audience file of a campaign, which lies beside the scenario."""
        return self.path.parent / str(campaign.audience)

    @property
    def source_files(self) -> list[Path]:
        """What it was read from: its own file, and those of audiences."""
        audiences = (each for each in self.campaigns if isinstance(each.audience, Path))
        return [self.path, *map(self.audience_file_of, audiences)]

    def refuse_to_overwrite(self, option: str, file: Path | None) -> None:
        """Raise :exc:`UsageError` if what an option names, to be written, is one of the files."""
        with suppress(OSError):  # what can't be looked at, can't be written either
            if file is not None and any(file.samefile(each) for each in self.source_files):
                raise UsageError(f"{option} {file}: is read here; expected another file to write")

    def campaign(self, name: str) -> Campaign:
        return next(each for each in self.campaigns if each.name == name)


def load_scenario(path: Path, *, seed: int | None = None, audience: Path | None = None) -> Scenario:
    """The scenario in a file, with its audience files' headers checked; ``seed`` replaces its own,
    and an ``audience`` file the customers of all campaigns.

    Raises :exc:`InvalidScenario` that names the file, the key and what was expected.
    """
    _require_regular_file(path)
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
    if audience is not None:
        for campaign in raw.get("campaigns", ()):
            campaign["audience"] = str(audience.absolute())
            campaign.pop("defects", None)
    for reserved in ("path", "text"):
        if reserved in raw:
            raise InvalidScenario(f"{path}: {reserved}: unknown key")
    try:
        scenario = Scenario(path=path, text=text, **raw)
    except ValidationError as error:
        wrong = format_validation_errors(error, Scenario)
        raise InvalidScenario("\n".join(f"{path}: {each}" for each in wrong)) from None
    for place, campaign in enumerate(scenario.campaigns):
        if isinstance(campaign.audience, Path):
            file = scenario.audience_file_of(campaign)
            try:
                _require_regular_file(file)
                check_header(file)
                _require_customers(file)
            except UsageError as error:
                raise InvalidScenario(f"{path}: campaigns[{place}].audience: {error}") from None
    return scenario


def _require_regular_file(path: Path) -> None:
    """A pipe would keep us waiting, and a device fill the memory."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InvalidScenario(f"{path}: is not a regular file")


def _require_customers(file: Path) -> None:
    if not any(isinstance(read, CustomerRecord) for read in read_customers(file)):
        raise UsageError(f"{file}: no row could be read as a customer")


def build_service_settings(scenario: Scenario, campaign: Campaign) -> ServiceSettings:
    """How the services fail for a campaign."""
    owner = scenario.audience_owner_of(campaign)
    return ServiceSettings(
        seed=scenario.seed,
        audience=owner.name,
        defects=owner.defects,
        failures={name: each.failures for name, each in scenario.services.items()},
    )
