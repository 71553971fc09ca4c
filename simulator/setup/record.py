"""Record the campaigns of a scenario and their customers before a run begins."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from simulator.audience.formats import AudienceFile
from simulator.audience.rejects import AudienceImport, RejectFile, check_rejects
from simulator.scenario.file import Scenario
from simulator.scenario.plan import PlannedAudience, PlannedCampaign, select_audience_campaigns
from simulator.setup.census import AudienceScanner, ImportedAudience, record_census
from simulator.setup.customers import ProgressCallback, generate_customers, import_customers
from simulator.setup.expected_outcomes import record_expected_outcomes
from simulator.setup.heartbeat import keep_alive
from simulator.setup.kept_lists import begin_with_kept_lists
from simulator.setup.rebuild import record_setup
from simulator.setup.run import Run, RunCampaign
from simulator.setup.run_folder import create_run_folder
from simulator.world.gateway import SimulatedGatewaySettings
from tracker.campaign_states import CampaignState
from tracker.clock import SystemClock, to_iso_8601, to_microseconds
from tracker.errors import UsageError
from tracker.organizations import ChannelSettings
from tracker.record import catalog, registration
from tracker.record.customers.shared_addresses import record_shared_addresses
from tracker.status import Channel
from tracker.store.database import Database


def record_run(
    database: Database, scenario: Scenario, home: Path, progress: ProgressCallback
) -> Run:
    """Record everything that a run needs before its first message.

    The run's folder, which receives rejected rows, is created below `home`.
    """
    with database.write() as connection:
        run_id = registration.record_run(
            connection,
            scenario=scenario.name,
            seed=scenario.seed,
            started_at=SystemClock().now(),
            speed=scenario.clock.speed,
            definition=scenario.text,
            clock_start=scenario.clock.start_instant,
            rules=json.dumps(scenario.rules, default=to_iso_8601),
            defer_at_most=to_microseconds(scenario.defer_at_most),
        )
    with _give_up_on_failure(database, run_id), keep_alive(database, run_id, resumes=0):
        folder = create_run_folder(home, run_id)
        recorder = _RunRecorder(database, scenario, run_id, folder, progress)
        for campaign in scenario.campaigns:
            recorder.record_customers(campaign)
        recorder.record_shared_addresses()
        campaigns = tuple(recorder.record_campaign(campaign) for campaign in scenario.campaigns)
        begin_with_kept_lists(database, run_id, campaigns, scenario.clock.start_instant, home)
    return Run(
        id=run_id,
        scenario=scenario,
        campaigns=campaigns,
        imports=tuple(recorder.imports),
        folder=folder,
    )


@contextmanager
def _give_up_on_failure(database: Database, run_id: int) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, UsageError) as error:
        is_refused = isinstance(error, UsageError)
        state = CampaignState.ABORTED if is_refused else CampaignState.INTERRUPTED
        with suppress(SQLAlchemyError), database.write() as connection:
            registration.give_up_run(connection, run_id, state)
        raise


def start_run(database: Database, run: Run) -> Run:
    """Start the clock of a recorded run now, and return the run with its new start.

    From now on, the run can be rebuilt from the record.
    """
    now = SystemClock().now()
    with database.write() as connection:
        registration.start_run(connection, run.id, now)
        record_setup(database, connection, run)
    clock_start = run.scenario.clock.start_instant
    started_at = now if clock_start is None else clock_start
    campaigns = (
        replace(
            campaign,
            campaign=replace(campaign.campaign, started_at=started_at, really_started_at=now),
        )
        for campaign in run.campaigns
    )
    return replace(run, campaigns=tuple(campaigns))


@dataclass(frozen=True, kw_only=True)
class _RecordedAudience:
    id: int
    size: int
    imported_audience: ImportedAudience | None = None


class _RunRecorder:
    """A recorder of campaigns, which records only once what several of them share."""

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
        self._importing_organizations: set[int] = set()
        self._skipping_audiences: set[int] = set()
        self.imports: list[AudienceImport] = []

    def record_customers(self, plan: PlannedCampaign) -> None:
        """Record a campaign's organization and its audience."""
        self._record_audience(plan.audience, self._record_organization(plan))

    def record_shared_addresses(self) -> None:
        """Record which imported customers have the same address, once all customers are recorded.

        Generated customers are persons of their own.
        """
        for organization_id in sorted(self._importing_organizations):
            with self._database.write_analytics() as connection:
                record_shared_addresses(connection, organization_id, self._skipping_audiences)

    def record_campaign(self, plan: PlannedCampaign) -> RunCampaign:
        """Record a campaign with its gateway and coupon series."""
        organization_id = self._record_organization(plan)
        gateway_id = self._record_gateway(plan)
        self._record_coupon_series(plan, organization_id)
        audience = self._record_audience(plan.audience, organization_id)
        with self._database.write() as connection:
            campaign_id = registration.record_campaign(
                connection,
                self._run_id,
                organization_id=organization_id,
                audience_id=audience.id,
                gateway_id=gateway_id,
                name=plan.name,
                channel=plan.channel,
                requires=plan.requires,
                attempts=plan.gateway.attempts,
                kind=plan.kind,
                sender=plan.sender,
                coupon_series=plan.coupon_series,
                services_kind=plan.services_kind,
                services_settings=plan.services_settings,
                tracks_engagement=plan.tracks_engagement,
                keeps_suppressions=plan.keeps_suppressions,
                title=plan.title,
                message=plan.message.to_json(),
            )
            campaign = catalog.load_campaign(connection, campaign_id)
            expected_outcomes = None
            if plan.expected_file is not None:
                expected_outcomes = record_expected_outcomes(
                    connection, campaign_id, audience.id, plan.expected_file
                )
        return RunCampaign(
            campaign=campaign,
            plan=plan,
            size=audience.size,
            imported_audience=audience.imported_audience,
            expected_outcomes=expected_outcomes,
        )

    def _record_organization(self, plan: PlannedCampaign) -> int:
        key, organization = plan.organization_key, plan.organization
        if key not in self._organizations:
            limit = organization.message_limit
            with self._database.write() as connection:
                self._organizations[key] = registration.record_organization(
                    connection,
                    self._run_id,
                    name=organization.name,
                    enabled=organization.enabled,
                    credit=organization.shared_credit,
                    credit_email=organization.channel_credit(Channel.EMAIL),
                    credit_sms=organization.channel_credit(Channel.SMS),
                    hard_bounce_limit=organization.hard_bounce_limit,
                    soft_bounce_limit=organization.soft_bounce_limit,
                    message_limit=None if limit is None else limit.count,
                    message_limit_days=1 if limit is None else limit.days,
                    title=organization.title,
                    channels={
                        channel: ChannelSettings(
                            **organization.channel_section(channel).model_dump()
                        )
                        for channel in Channel
                    },
                )
        return self._organizations[key]

    def _record_gateway(self, plan: PlannedCampaign) -> int:
        key = plan.gateway_key
        if key not in self._gateways:
            gateway = plan.gateway
            # Campaigns of both channels may share the gateway, and only email has engagement.
            rates = {campaign.channel: campaign.engagement for campaign in self._scenario.campaigns}
            settings = SimulatedGatewaySettings(
                seed=plan.seed,
                behaviour=gateway,
                engagement=rates.get(Channel.EMAIL, plan.engagement),
                has_imported_recipients=any(
                    campaign.audience.is_imported
                    for campaign in self._scenario.campaigns
                    if campaign.gateway_key == key
                ),
            )
            with self._database.write() as connection:
                self._gateways[key] = registration.record_gateway(
                    connection,
                    self._run_id,
                    kind=gateway.kind,
                    settings=(
                        settings.model_dump_json()
                        if gateway.is_simulated
                        else gateway.real_settings
                    ),
                    enabled=gateway.enabled,
                    rate=gateway.rate,
                    retry_after=to_microseconds(gateway.retry_delay),
                    replies=gateway.replies_as_json,
                    unconfirmed_after=to_microseconds(gateway.unconfirmed_delay),
                )
        return self._gateways[key]

    def _record_coupon_series(self, plan: PlannedCampaign, organization_id: int) -> None:
        name = plan.coupon_series
        if name is None or (organization_id, name) in self._series:
            return
        with self._database.write() as connection:
            registration.record_coupon_series(
                connection, organization_id, name=name, active=plan.is_series_active
            )
        self._series.add((organization_id, name))

    def _record_audience(
        self, audience: PlannedAudience, organization_id: int
    ) -> _RecordedAudience:
        if audience.owner not in self._audiences:
            with self._database.write() as connection:
                audience_id = registration.record_audience(
                    connection, organization_id, audience.label, audience.title
                )
            recorded = (
                self._generate_audience(audience, audience_id, audience.source)
                if isinstance(audience.source, int)
                else self._import_audience(audience, audience_id, audience.source)
            )
            if recorded.imported_audience is not None:
                self._importing_organizations.add(organization_id)
                if recorded.imported_audience.skips_duplicates:
                    self._skipping_audiences.add(audience_id)
            with self._database.write() as connection:
                registration.record_audience_size(connection, audience_id, recorded.size)
            self._audiences[audience.owner] = recorded
        return self._audiences[audience.owner]

    def _generate_audience(
        self, audience: PlannedAudience, audience_id: int, size: int
    ) -> _RecordedAudience:
        generate_customers(
            self._database,
            audience_id,
            size,
            seed=self._scenario.seed,
            campaign=audience.owner,
            requires=audience.requires,
            defects=audience.defects,
            progress=self._progress,
        )
        return _RecordedAudience(id=audience_id, size=size)

    def _import_audience(
        self, audience: PlannedAudience, audience_id: int, file: AudienceFile
    ) -> _RecordedAudience:
        rejects_path = self._folder / f"{file.path.stem}.{audience_id}.rejects.csv"
        scanner = AudienceScanner(
            select_audience_campaigns(self._scenario.campaigns, audience),
            self._scenario.clock.begin_day(),
            file.load_format().duplicates,
        )
        with RejectFile(rejects_path) as rejects:
            counts = import_customers(
                self._database,
                audience_id,
                file,
                scanner=scanner,
                rejects=rejects,
                progress=self._progress,
            )
        rejects_file = rejects_path if rejects.count else None
        check_rejects(file, counts, rejects_file)
        self.imports.append(
            AudienceImport(
                audience=file.path,
                rows=counts.rows,
                problems=counts.by_problem,
                rejects_file=rejects_file,
            )
        )
        imported_audience = scanner.build_imported_audience()
        with self._database.write() as connection:
            record_census(connection, audience_id, imported_audience)
        return _RecordedAudience(
            id=audience_id, size=counts.customers, imported_audience=imported_audience
        )
