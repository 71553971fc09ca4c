"""Resume a run: a further driver queues what is still scheduled, later by the pause."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from simulator.faults.inject import reject_unsupported_faults
from simulator.results.observations import RunConditions
from simulator.results.result import RunResult
from simulator.retry import Outages
from simulator.run.drive import add_run_to_errors, drive_run
from simulator.run.driver_record import load_drivers, record_driver
from simulator.run.environment import describe_conditions, describe_machine
from simulator.run.judge import RecordedRun, RunIsAlive, load_recorded_run
from simulator.run.options import RunOptions, reject_missing_rules
from simulator.run.outcome import RunOutcome
from simulator.run.system import open_system
from simulator.schema import open_database
from simulator.setup.heartbeat import keep_alive
from simulator.setup.run import Resumption, Run
from tracker.campaign_states import GIVEN_UP_STATES, CampaignState
from tracker.clock import Instant, to_run_microseconds, to_timedelta
from tracker.errors import UsageError
from tracker.queries.campaign_state import read_run_states, read_silence, run_state
from tracker.record.registration import resume_run
from tracker.settings import Settings
from tracker.store.database import Database

RESUMABLE_STATES = (CampaignState.ABANDONED, *GIVEN_UP_STATES)
"""The states of a run that a further driver may continue."""


class RunIsFinished(UsageError):
    """A finished run can't be resumed."""

    def __init__(self, run_id: int) -> None:
        super().__init__(
            f"run {run_id} is finished: nothing is left to resume; see sendtrace judge {run_id}"
        )


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """The options of `sendtrace resume`; None stands for that of the run's last driver.

    Attributes:
        workers: worker processes to start.
        is_attached: use workers that run already, and start none.
        outage_limit: how long an outage of the broker or the database may last.
    """

    workers: int | None = None
    is_attached: bool | None = None
    outage_limit: timedelta | None = None


def resume(
    settings: Settings,
    run_id: int,
    options: ResumeOptions,
    print_result: Callable[[RunResult], None],
) -> RunOutcome:
    """Resume a run that was interrupted, aborted or abandoned, and drive it to its end.

    Args:
        print_result: called with the result before it is recorded.

    Raises:
        UsageError: the run can't be resumed, or not with these settings; nothing is changed.
        SendtraceError: the run did not finish.
    """
    settings.prepare_home()
    with closing(open_database(settings)) as database, database.readable_errors():
        recorded = load_resumable_run(database, run_id)
        chosen = _choose_options(recorded, options)
        pending = plan_resumption(database, recorded).pending_faults
    scenario = replace(recorded.run.scenario, faults=pending)
    reject_missing_rules(scenario, chosen)
    reject_unsupported_faults(scenario, settings, is_attached=chosen.is_attached)
    machine = describe_machine(settings.home)
    with open_system(scenario, settings, chosen) as system, system.readable_errors():
        system.wait_until_ready()
        conditions = describe_conditions(system, chosen, machine)
        run = claim_run(system.database, system.outages, recorded, chosen, conditions)
        with (
            add_run_to_errors(system, run, has_started=True),
            keep_alive(system.database, run.id, run.driver_number) as heartbeat,
        ):
            return drive_run(system, run, chosen, heartbeat, print_result)


def load_resumable_run(database: Database, run_id: int) -> RecordedRun:
    """Rebuild a run that can be resumed.

    Raises:
        UsageError: the run doesn't exist, never started, is finished, or has a living driver.
    """
    with database.read() as connection:
        if read_run_states(connection, [run_id]).get(run_id) is CampaignState.FINISHED:
            raise RunIsFinished(run_id)
    return load_recorded_run(database, run_id)


def _choose_options(recorded: RecordedRun, options: ResumeOptions) -> RunOptions:
    last = recorded.options
    return replace(
        last,
        workers=last.workers if options.workers is None else options.workers,
        is_attached=last.is_attached if options.is_attached is None else options.is_attached,
        outage_limit=last.outage_limit if options.outage_limit is None else options.outage_limit,
    )


def plan_resumption(database: Database, recorded: RecordedRun) -> Run:
    """Return the run as a driver that starts now continues it."""
    run = recorded.run
    paused_before = recorded.drivers[-1].paused
    with database.read() as connection:
        silence = to_timedelta(read_silence(connection, run.id))
    pause = to_run_microseconds(silence, run.scenario.clock.speed)
    stopped_at = max(run.started_at, run.clock.now() - pause)
    return run.resumed(
        Resumption(
            number=len(recorded.drivers),
            elapsed=max(0, stopped_at - run.started_at - paused_before),
            paused=paused_before + pause,
            stopped_at=stopped_at,
        )
    )


def claim_run(
    database: Database,
    outages: Outages,
    recorded: RecordedRun,
    options: RunOptions,
    conditions: RunConditions,
) -> Run:
    """Make this process the driver of a run, and return the run as it continues.

    Args:
        recorded: the run before that.

    Raises:
        RunIsAlive: another driver was faster.
    """
    run = outages.retry(partial(plan_resumption, database, recorded))
    # It also identifies the claim, if a lost connection hides whether that was committed.
    started_at = run.clock.now()
    outages.retry(partial(_record_claim, database, run, options, conditions, started_at))
    return run


def _record_claim(
    database: Database,
    run: Run,
    options: RunOptions,
    conditions: RunConditions,
    started_at: Instant,
) -> None:
    number = run.driver_number
    with database.write() as connection:
        can_resume = run_state(connection).in_([state.value for state in RESUMABLE_STATES])
        if resume_run(connection, run.id, number - 1, can_resume):
            record_driver(database, connection, run, options, conditions, started_at)
            return
        later_drivers = load_drivers(connection, run.id)[number:]
    if [driver.started_at for driver in later_drivers] != [started_at]:
        raise RunIsAlive(run.id)
