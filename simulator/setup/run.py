"""A run whose campaigns and customers are recorded, as drivers, oracle and results use it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simulator.audience.problems import Problem
from simulator.audience.rejects import AudienceImport
from simulator.figures import count_import_problems
from simulator.scenario.faults import FaultSection
from simulator.scenario.file import Scenario
from simulator.scenario.plan import PlannedCampaign
from simulator.setup.census import ImportedAudience
from simulator.setup.expected_outcomes import ExpectedOutcomes
from tracker.clock import Clock, Instant, from_seconds, to_microseconds
from tracker.record import catalog


@dataclass(frozen=True, kw_only=True)
class RunCampaign:
    """A campaign that is ready to be sent.

    Attributes:
        campaign: the campaign as recorded.
        plan: the campaign as planned from the scenario.
        size: number of its messages.
        imported_audience: what the oracle knows of its customers, if they come from a file.
        expected_outcomes: how some of its messages must end, if the scenario says so.
        delay: microseconds by which pauses of the run delay its messages.
    """

    campaign: catalog.Campaign
    plan: PlannedCampaign
    size: int
    imported_audience: ImportedAudience | None = None
    expected_outcomes: ExpectedOutcomes | None = None
    delay: int = 0

    @property
    def starts_at(self) -> Instant:
        """Instant before which none of the messages arrives."""
        return self.campaign.started_at + to_microseconds(self.plan.start) + self.delay

    @property
    def last_arrival_at(self) -> Instant:
        """Instant at which the last message arrives, if the campaign waits for no other."""
        if not self.size:
            return self.starts_at
        [last] = self.plan.arrival_shape.arrival_times(self.size - 1, 1)
        return self.starts_at + from_seconds(float(last))


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """The pauses of a run that was resumed. Times are microseconds of the run's clock.

    Attributes:
        number: how often the run was resumed.
        elapsed: time for which a driver was active before this one.
        paused: time without a driver, all pauses together.
        stopped_at: instant at which the previous driver gave the run up, or was last alive.
    """

    number: int
    elapsed: int
    paused: int
    stopped_at: Instant


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run whose customers and campaigns are recorded.

    Attributes:
        imports: the results of the imports of its audience files.
        folder: folder of its files.
        resumption: None for a run in its first driver.
    """

    id: int
    scenario: Scenario
    campaigns: tuple[RunCampaign, ...]
    imports: tuple[AudienceImport, ...]
    folder: Path
    resumption: Resumption | None = None

    @property
    def recorded_campaigns(self) -> list[catalog.Campaign]:
        """The run's campaigns as recorded."""
        return [run_campaign.campaign for run_campaign in self.campaigns]

    @property
    def campaign_ids(self) -> list[int]:
        """Ids of the run's campaigns."""
        return [run_campaign.campaign.id for run_campaign in self.campaigns]

    @property
    def real_gateways(self) -> list[str]:
        """Kinds of the run's gateways that are not simulated."""
        gateways = [run_campaign.plan.gateway for run_campaign in self.campaigns]
        return sorted({gateway.kind for gateway in gateways if not gateway.is_simulated})

    @property
    def clock(self) -> Clock:
        """The clock that the run's campaigns share."""
        return self.campaigns[0].campaign.clock

    @property
    def started_at(self) -> Instant:
        """Instant at which the run's clock started."""
        return self.campaigns[0].campaign.started_at

    @property
    def size(self) -> int:
        """Number of messages of all campaigns."""
        return sum(campaign.size for campaign in self.campaigns)

    @property
    def import_figures(self) -> dict[str, float | None]:
        """The figures of its audience files, which no message changes."""
        problems: Counter[Problem] = Counter()
        for audience in self.imports:
            problems.update(audience.problems)
        rows = sum(audience.rows for audience in self.imports)
        return dict(count_import_problems(rows, problems))

    @property
    def driver_number(self) -> int:
        """Number of the current driver; the first is 0."""
        return 0 if self.resumption is None else self.resumption.number

    @property
    def paused(self) -> int:
        """Microseconds of the run's clock in which the run had no driver."""
        return 0 if self.resumption is None else self.resumption.paused

    @property
    def pending_faults(self) -> tuple[FaultSection, ...]:
        """Faults whose time has not come before the run was resumed."""
        elapsed = -1 if self.resumption is None else self.resumption.elapsed
        return tuple(fault for fault in self.scenario.faults if to_microseconds(fault.at) > elapsed)

    def resumed(self, resumption: Resumption) -> "Run":
        """Return the run as a further driver continues it: its messages arrive later."""
        campaigns = (replace(campaign, delay=resumption.paused) for campaign in self.campaigns)
        return replace(self, campaigns=tuple(campaigns), resumption=resumption)

    def limited_to(self, sizes: Sequence[int]) -> "Run":
        """Return the run with these numbers of messages, one for each campaign."""
        campaigns = (
            replace(campaign, size=size)
            for campaign, size in zip(self.campaigns, sizes, strict=True)
        )
        return replace(self, campaigns=tuple(campaigns))
