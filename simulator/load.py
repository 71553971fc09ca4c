"""The load: a scenario's campaigns recorded, and sent batch by batch into the queue."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from simulator import audience
from simulator import scenario as world
from simulator.audience import Progress
from simulator.customer_file import RejectFile
from simulator.gateway import KIND, Settings
from simulator.oracle import Oracle, labels_of_records
from simulator.scenario import Scenario
from tracker import catalog
from tracker.clock import SystemClock, to_datetime
from tracker.database import Database
from tracker.errors import UsageError
from tracker.journal import Author, enqueue
from tracker.status import Channel, Step
from workers.queues import QUEUE_OF, task_name

DRIVER = Author(worker="driver")


@dataclass(frozen=True, kw_only=True)
class Rejects:
    """Rows of an audience file that could not be read, and where they were put."""

    audience: Path
    count: int
    file: Path


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A campaign that is ready to be sent, and who knows what must become of it."""

    campaign: catalog.Campaign
    size: int
    oracle: Oracle


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run whose customers and campaigns are recorded, but no message yet."""

    id: int
    scenario: Scenario
    campaigns: tuple[Loaded, ...]
    rejects: tuple[Rejects, ...]

    @property
    def size(self) -> int:
        """Messages of all campaigns together."""
        return sum(loaded.size for loaded in self.campaigns)


def record_run(database: Database, scenario: Scenario, folder: Path, progress: Progress) -> Run:
    """Record all that a run needs before its first message; rejected rows go below ``folder``."""
    started_at = SystemClock().now()
    with database.write() as connection:
        run_id = catalog.record_run(
            connection,
            scenario=scenario.name,
            seed=scenario.seed,
            started_at=started_at,
            speed=scenario.clock.speed,
            definition=scenario.text,
        )
        organization = scenario.organization
        organization_id = catalog.record_organization(
            connection,
            run_id,
            name=organization.name,
            enabled=organization.enabled,
            credit=organization.credit,
            hard_bounce_limit=organization.hard_bounce_limit,
            soft_bounce_limit=organization.soft_bounce_limit,
        )
        gateway_ids = {
            channel: catalog.record_gateway(
                connection,
                run_id,
                kind=KIND,
                settings=Settings(
                    seed=scenario.seed, behaviour=scenario.gateway(channel).behaviour
                ).model_dump_json(),
            )
            for channel in Channel
        }
    recorder = _Recorder(database, scenario, run_id, organization_id, folder, progress)
    loaded = [recorder.record(each, gateway_ids[each.channel]) for each in scenario.campaigns]
    return Run(
        id=run_id, scenario=scenario, campaigns=tuple(loaded), rejects=tuple(recorder.rejects)
    )


class _Recorder:
    """Records campaigns one after the other; those that name one file share its customers."""

    def __init__(
        self,
        database: Database,
        scenario: Scenario,
        run_id: int,
        organization_id: int,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._database = database
        self._scenario = scenario
        self._run_id = run_id
        self._organization_id = organization_id
        self._folder = folder / "runs" / str(run_id)
        self._progress = progress
        self._imported: dict[Path, tuple[int, int]] = {}
        self.rejects: list[Rejects] = []

    def record(self, campaign: world.Campaign, gateway_id: int) -> Loaded:
        if isinstance(campaign.audience, int):
            audience_id, size = self._generate(campaign, campaign.audience)
        else:
            audience_id, size = self._import(self._scenario.path.parent / campaign.audience)
        with self._database.write() as connection:
            campaign_id = catalog.record_campaign(
                connection,
                self._run_id,
                organization_id=self._organization_id,
                audience_id=audience_id,
                gateway_id=gateway_id,
                name=campaign.name,
                channel=campaign.channel,
                requires=campaign.requires,
                attempts=self._scenario.gateway(campaign.channel).attempts,
            )
            recorded = catalog.load_campaign(connection, campaign_id)
        labels = None
        if isinstance(campaign.audience, Path):
            today = to_datetime(recorded.clock.now()).date()
            labels = labels_of_records(self._database, audience_id, self._scenario, campaign, today)
        oracle = Oracle(self._scenario, campaign, size, labels)
        return Loaded(campaign=recorded, size=size, oracle=oracle)

    def _generate(self, campaign: world.Campaign, size: int) -> tuple[int, int]:
        audience_id = self._new_audience(f"generated for {campaign.name}")
        audience.generate(
            self._database,
            audience_id,
            size,
            seed=self._scenario.seed,
            campaign=campaign.name,
            requires=campaign.requires,
            defects=campaign.defects,
            progress=self._progress,
        )
        return audience_id, size

    def _import(self, file: Path) -> tuple[int, int]:
        if file in self._imported:
            return self._imported[file]
        audience_id = self._new_audience(file.name)
        self._folder.mkdir(parents=True, exist_ok=True)
        rejects_path = self._folder / f"{file.stem}.rejects.csv"
        with RejectFile(rejects_path) as rejects:
            size = audience.import_file(self._database, audience_id, file, rejects, self._progress)
        if rejects.count:
            self.rejects.append(Rejects(audience=file, count=rejects.count, file=rejects_path))
        if not size:
            see = f"; see {rejects_path}" if rejects.count else ""
            raise UsageError(f"{file}: no row could be read as a customer{see}")
        self._imported[file] = audience_id, size
        return audience_id, size

    def _new_audience(self, source: str) -> int:
        with self._database.write() as connection:
            return catalog.record_audience(connection, self._organization_id, source)


def drive(database: Database, app: Celery, run: Run, batch_size: int) -> Iterator[int]:
    """Record the messages batch by batch and queue each batch; yields the messages of each."""
    for loaded in run.campaigns:
        for batch, first in enumerate(range(0, loaded.size, batch_size)):
            size = min(batch_size, loaded.size - first)
            enqueue(database, loaded.campaign, batch=batch, first=first, size=size, by=DRIVER)
            app.send_task(
                task_name(Step.SUPPRESS),
                kwargs={"campaign": loaded.campaign.id, "batch": batch},
                queue=QUEUE_OF[Step.SUPPRESS],
            )
            yield size
