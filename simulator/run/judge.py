"""Judge a run from the record: at any time after its end, even if its driver was killed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from simulator.results.observations import RunConditions, RunObservations, RunState
from simulator.results.result import RunResult, judge_run
from simulator.retry import JUDGE_OUTAGE_LIMIT, Outages
from simulator.run.driver_record import DriverRecord, load_drivers
from simulator.run.options import RunOptions
from simulator.run.outcome import RunOutcome, archive_result
from simulator.schema import analyze_all_tables
from simulator.setup.rebuild import RunNotStarted, load_run
from simulator.setup.run import Run
from tracker.campaign_states import CampaignState
from tracker.errors import UsageError
from tracker.queries.campaign_state import read_run_states
from tracker.record.rollup import roll_up_engagement
from tracker.settings import Settings
from tracker.store.database import Database


class RunIsAlive(UsageError):
    """A run may have a living driver, so no other process may judge or resume it."""

    def __init__(self, run_id: int) -> None:
        super().__init__(
            f"run {run_id} may have a living driver; wait for its end, or for 30 s if its driver"
            " was killed"
        )


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A run that has ended, or has no living driver, with what its drivers recorded."""

    run: Run
    state: RunState
    drivers: tuple[DriverRecord, ...]

    @property
    def options(self) -> RunOptions:
        """The options of its last driver."""
        return self.drivers[-1].options

    @property
    def conditions(self) -> RunConditions:
        """The conditions of its last driver."""
        return self.drivers[-1].conditions

    @property
    def observations(self) -> RunObservations:
        """The observations of its drivers; unknown for those that never recorded their end."""
        return RunObservations(
            state=self.state,
            planned=self.run.size,
            drivers=[driver.observations for driver in self.drivers],
        )

    def judge(self, database: Database, outages: Outages) -> RunResult:
        """Compare the run with its prediction and its thresholds."""
        outages.retry(partial(analyze_all_tables, database))
        return outages.retry(
            partial(judge_run, database, self.run, self.observations, self.conditions)
        )


def load_recorded_run(database: Database, run_id: int) -> RecordedRun:
    """Rebuild a run that has no living driver.

    Raises:
        NotFound: the run doesn't exist.
        RunNotStarted: its customers were never recorded completely.
        RunIsAlive: the run may have a living driver.
    """
    with database.read() as connection:
        states = read_run_states(connection, [run_id])
        if states.get(run_id) in (CampaignState.SCHEDULED, CampaignState.RUNNING):
            raise RunIsAlive(run_id)
        run = load_run(connection, run_id)
        drivers = tuple(load_drivers(connection, run_id))
    if not drivers:
        raise RunNotStarted(run_id)
    return RecordedRun(run=run, state=RunState(states[run_id]), drivers=drivers)


def judge(
    database: Database,
    settings: Settings,
    run_id: int,
    print_result: Callable[[RunResult], None],
) -> RunOutcome:
    """Judge a run from the record, print its result and store it in place of an earlier one.

    Args:
        print_result: called with the result before it is stored.

    Raises:
        UsageError: the run doesn't exist, never started, or has a living driver.
    """
    settings.prepare_home()
    outages = Outages(JUDGE_OUTAGE_LIMIT)
    recorded = load_recorded_run(database, run_id)
    outages.retry(partial(roll_up_engagement, database, settings.zone, recorded.run.campaign_ids))
    result = recorded.judge(database, outages)
    print_result(result)
    page, archive_error = archive_result(
        database, outages, settings.home, result, series=recorded.options.series
    )
    return RunOutcome(result=result, page=page, archive_error=archive_error)
