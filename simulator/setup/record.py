"""The load: a scenario's campaigns and their customers, recorded before a run begins."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simulator.scenario import sections as world
from simulator.scenario.arrivals import ArrivalShape
from simulator.scenario.audience_file import RejectFile
from simulator.scenario.file import Scenario, build_service_settings
from simulator.setup import customers
from simulator.setup.census import AudienceScanner, ImportedAudience
from simulator.setup.customers import ProgressCallback
from simulator.setup.run_folder import create_run_folder
from simulator.world import services
from simulator.world.gateway import SimulatedGatewaySettings, SlowPeriod
from tracker.clock import Instant, SystemClock, from_seconds, to_datetime, to_microseconds
from tracker.errors import UsageError
from tracker.record import catalog
from tracker.status import Channel
from tracker.store.database import Database
from tracker.text import pluralize

DEFAULT_COUPON_SERIES = "default"
"""The coupon series of campaigns that give coupons and do not say of which series."""


@dataclass(frozen=True, kw_only=True)
class AudienceRejects:
    """Rows of an audience file that could not be read, and where they were put."""

    audience: Path
    count: int
    file: Path

    @property
    def summary(self) -> str:
        return f"{self.audience.name}: {pluralize(self.count, 'row')} could not be read"


@dataclass(frozen=True, kw_only=True)
class RunCampaign:
    """A campaign that is ready to be sent: as recorded, and as its scenario plans it.

    ``population`` is that of an imported audience.
    """

    campaign: catalog.Campaign
    plan: world.Campaign
    size: int
    population: ImportedAudience | None = None

    @property
    def begins_at(self) -> Instant:
        """Before this none of its messages arrives."""
        return self.campaign.started_at + to_microseconds(self.plan.load.start)

    @property
    def last_arrival_at(self) -> Instant:
        """When the last of its messages arrives, if it waits for no other campaign."""
        if not self.size:
            return self.begins_at
        [last] = self.shape.arrivals(self.size - 1, 1)
        return self.begins_at + from_seconds(float(last))

    @property
    def shape(self) -> ArrivalShape:
        """In which its messages arrive."""
        return self.plan.load.shape.shape


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run whose customers and campaigns are recorded, but no message yet; its files are in
    ``folder``."""

    id: int
    scenario: Scenario
    campaigns: tuple[RunCampaign, ...]
    rejects: tuple[AudienceRejects, ...]
    folder: Path

    @property
    def started_at(self) -> Instant:
        """When its clock started."""
        return self.campaigns[0].campaign.started_at

    def limited_to(self, sizes: Sequence[int]) -> "Run":
        """The same run, had each campaign so many messages only."""
        campaigns = (
            replace(loaded, size=size) for loaded, size in zip(self.campaigns, sizes, strict=True)
        )
        return replace(self, campaigns=tuple(campaigns))

    @property
    def size(self) -> int:
        """Messages of all campaigns together."""
        return sum(loaded.size for loaded in self.campaigns)


def record_run(
    database: Database, scenario: Scenario, home: Path, progress: ProgressCallback
) -> Run:
    """Record all that a run needs before its first message; rejected rows go below ``home``."""
    with database.write() as connection:
        run_id = catalog.record_run(
            connection,
            scenario=scenario.name,
            seed=scenario.seed,
            started_at=SystemClock().now(),
            speed=scenario.clock.speed,
            definition=scenario.text,
        )
    folder = create_run_folder(home, run_id)
    recorder = _RunRecorder(database, scenario, run_id, folder, progress)
    loaded = [recorder.record_campaign(each) for each in scenario.campaigns]
    return Run(
        id=run_id,
        scenario=scenario,
        campaigns=tuple(loaded),
        rejects=tuple(recorder.rejects),
        folder=folder,
    )


def start_run(database: Database, run: Run) -> Run:
    """Have a run that is recorded begin now: its clock starts when everything is ready."""
    now = SystemClock().now()
    with database.write() as connection:
        catalog.begin_run(connection, run.id, now)
    campaigns = (
        replace(loaded, campaign=replace(loaded.campaign, started_at=now))
        for loaded in run.campaigns
    )
    return replace(run, campaigns=tuple(campaigns))


@dataclass(frozen=True, kw_only=True)
class _RecordedAudience:
    id: int
    size: int
    population: ImportedAudience | None = None


class _RunRecorder:
    """Records campaigns one after the other, and what they have in common only once."""

    def __init__(
        self,
        database: Database,
        scenario: Scenario,
        run_id: int,
        folder: Path,
        progress: ProgressCallback,
    ) -> None:
        self._database = database
        self._scenario = scenario
        self._run_id = run_id
        self._folder = folder
        self._progress = progress
        self._organizations: dict[str | None, int] = {}
        self._gateways: dict[str, int] = {}
        self._series: set[tuple[int, str]] = set()
        self._audiences: dict[str, _RecordedAudience] = {}
        self.rejects: list[AudienceRejects] = []

    def record_campaign(self, campaign: world.Campaign) -> RunCampaign:
        organization_id = self._record_organization(campaign)
        gateway_id = self._record_gateway(campaign)
        series = self._record_coupon_series(campaign, organization_id)
        audience = self._record_audience(campaign, organization_id)
        with self._database.write() as connection:
            campaign_id = catalog.record_campaign(
                connection,
                self._run_id,
                organization_id=organization_id,
                audience_id=audience.id,
                gateway_id=gateway_id,
                name=campaign.name,
                channel=campaign.channel,
                requires=campaign.requires,
                attempts=self._scenario.gateway_of(campaign).attempts,
                kind=campaign.kind,
                sender=campaign.sender,
                series=series,
                services_kind=services.SIMULATED_SERVICES_KIND,
                services_settings=build_service_settings(
                    self._scenario, campaign
                ).model_dump_json(),
                tracks_engagement=self._scenario.can_engage(campaign),
            )
            recorded = catalog.load_campaign(connection, campaign_id)
        return RunCampaign(
            campaign=recorded, plan=campaign, size=audience.size, population=audience.population
        )

    def _record_organization(self, campaign: world.Campaign) -> int:
        key = campaign.organization
        if key not in self._organizations:
            organization = self._scenario.organization_of(campaign)
            limit = organization.message_limit
            with self._database.write() as connection:
                self._organizations[key] = catalog.record_organization(
                    connection,
                    self._run_id,
                    name=organization.name,
                    enabled=organization.enabled,
                    credit=organization.credit,
                    hard_bounce_limit=organization.hard_bounce_limit,
                    soft_bounce_limit=organization.soft_bounce_limit,
                    message_limit=None if limit is None else limit.count,
                    message_limit_days=1 if limit is None else limit.days,
                    channels={
                        channel: catalog.ChannelSettings(
                            enabled=organization.channel_section(channel).enabled,
                            sender=organization.channel_section(channel).sender,
                        )
                        for channel in Channel
                    },
                )
        return self._organizations[key]

    def _record_gateway(self, campaign: world.Campaign) -> int:
        key = f"{campaign.gateway or campaign.channel} {campaign.channel}"
        if key not in self._gateways:
            gateway = self._scenario.gateway_of(campaign)
            outage, slow = gateway.outage, gateway.slow
            settings = SimulatedGatewaySettings(
                seed=self._scenario.seed,
                behaviour=gateway.behaviour,
                inclination=self._scenario.engagement_rates_of(campaign),
                outage=outage.span if outage else None,
                slow=SlowPeriod(span=slow.span, factor=slow.factor) if slow else None,
            )
            with self._database.write() as connection:
                self._gateways[key] = catalog.record_gateway(
                    connection,
                    self._run_id,
                    kind=gateway.kind,
                    settings=settings.model_dump_json() if gateway.is_simulated else "{}",
                    enabled=gateway.enabled,
                    rate=gateway.rate,
                    retry_after=to_microseconds(gateway.retry_delay),
                )
        return self._gateways[key]

    def _record_coupon_series(self, campaign: world.Campaign, organization_id: int) -> str | None:
        if "coupon" not in campaign.requires:
            return None
        name = campaign.coupon_series or DEFAULT_COUPON_SERIES
        if (organization_id, name) not in self._series:
            active = self._scenario.has_active_series(campaign)
            with self._database.write() as connection:
                catalog.record_coupon_series(connection, organization_id, name=name, active=active)
            self._series.add((organization_id, name))
        return name

    def _record_audience(self, campaign: world.Campaign, organization_id: int) -> _RecordedAudience:
        owner = self._scenario.audience_owner_of(campaign)
        if owner.name not in self._audiences:
            audience_id = self._insert_audience(organization_id, owner)
            self._audiences[owner.name] = (
                self._generate_audience(owner, audience_id, owner.audience)
                if isinstance(owner.audience, int)
                else self._import_audience(owner, audience_id)
            )
        return self._audiences[owner.name]

    def _insert_audience(self, organization_id: int, owner: world.Campaign) -> int:
        made = isinstance(owner.audience, int)
        source = f"generated for {owner.name}" if made else str(owner.audience)
        with self._database.write() as connection:
            return catalog.record_audience(connection, organization_id, source)

    def _generate_audience(
        self, owner: world.Campaign, audience_id: int, size: int
    ) -> _RecordedAudience:
        customers.generate_customers(
            self._database,
            audience_id,
            size,
            seed=self._scenario.seed,
            campaign=owner.name,
            requires=[
                needed
                for each in self._scenario.campaigns_sharing_audience(owner)
                for needed in each.requires
            ],
            defects=owner.defects,
            progress=self._progress,
        )
        return _RecordedAudience(id=audience_id, size=size)

    def _import_audience(self, owner: world.Campaign, audience_id: int) -> _RecordedAudience:
        file = self._scenario.audience_file_of(owner)
        rejects_path = self._folder / f"{file.stem}.{audience_id}.rejects.csv"
        census = AudienceScanner(
            self._scenario.campaigns_sharing_audience(owner),
            to_datetime(SystemClock().now()).date(),
        )
        with RejectFile(rejects_path) as rejects:
            size = customers.import_customers(
                self._database,
                audience_id,
                file,
                census=census,
                rejects=rejects,
                progress=self._progress,
            )
        if rejects.count:
            self.rejects.append(
                AudienceRejects(audience=file, count=rejects.count, file=rejects_path)
            )
        if not size:
            see = f"; see {rejects_path}" if rejects.count else ""
            raise UsageError(f"{file}: no row could be read as a customer{see}")
        return _RecordedAudience(
            id=audience_id, size=size, population=census.build_imported_audience()
        )
