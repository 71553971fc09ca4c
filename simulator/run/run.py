"""One run, from its first row to its verdict."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from simulator.faults.inject import FaultInjector, reject_unsupported_faults
from simulator.results.archive import store_result
from simulator.results.observations import RunConditions, RunObservations, RunState
from simulator.results.result import RunResult, judge_run
from simulator.retry import retry_transient
from simulator.run.environment import describe_machine, read_versions
from simulator.run.observers.base import BackgroundObserver, RunObserver
from simulator.run.observers.nightly import NightlyRollups
from simulator.run.observers.progress import ProgressDisplay, open_display
from simulator.run.observers.sampling import Sampler, find_database_server
from simulator.run.observers.sweeper import Sweeper
from simulator.run.observers.worker_monitor import WorkerMonitor
from simulator.run.options import RunOptions, reject_unsampled_thresholds
from simulator.run.play import RunPlayer
from simulator.run.shutdown import catch_shutdown_request
from simulator.run.system import RunSystem, open_system
from simulator.scenario.file import Scenario
from simulator.setup.heartbeat import keep_alive
from simulator.setup.record import Run, record_run, start_run
from tracker.clock import SystemClock
from tracker.errors import SendtraceError
from tracker.output.svg import DrawingFailed
from tracker.record import registration
from tracker.record.rollup import roll_up_engagement
from tracker.settings import Settings
from tracker.status import CampaignState
from tracker.store.database import Database
from tracker.text import pluralize


class RunFailed(SendtraceError):
    """A run that had started did not finish."""


class RunInterrupted(SendtraceError):
    """A run was interrupted by a signal."""

    exit_code = 130


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """The result of a run, and where it is.

    Attributes:
        page: the page of the result; None if it was not recorded.
        archive_error: why the result could not be recorded, if so.
        is_shutdown_requested: whether a signal asked the run to finish early.
    """

    result: RunResult
    page: Path | None = None
    archive_error: str | None = None
    is_shutdown_requested: bool = False


def simulate(
    scenario: Scenario,
    settings: Settings,
    options: RunOptions,
    print_result: Callable[[RunResult], None],
) -> RunOutcome:
    """Run a scenario through real workers, verify and print its result, and record it.

    Args:
        print_result: called with the result before it is recorded.

    Raises:
        UsageError: the scenario can't be run with these settings; nothing is recorded.
        SendtraceError: the run did not finish.
    """
    reject_unsampled_thresholds(scenario, options)
    reject_unsupported_faults(scenario, settings, is_attached=options.is_attached)
    settings.prepare_home()
    machine = describe_machine(settings.home)
    with open_system(scenario, settings, options) as system, system.readable_errors():
        run = _record_run(system, scenario)
        with _add_run_to_errors(system, run), keep_alive(system.database, run.id):
            if system.worker is not None:
                system.worker.wait_until_ready(system.app)
            with catch_shutdown_request() as is_shutdown_requested:
                with open_display() as display:
                    run = retry_transient(partial(start_run, system.database, run))
                    observations = _play(system, run, options, display, is_shutdown_requested)
                    display.log("verifying results")
                    conditions = _describe_conditions(system, options, machine)
                    result = _verify(system, run, observations, conditions)
                print_result(result)
                page, archive_error = _archive_result(system.database, result, options)
                if observations.state is RunState.ABORTED:
                    _discard_remaining_tasks(system, run)
    return RunOutcome(
        result=result,
        page=page,
        archive_error=archive_error,
        is_shutdown_requested=is_shutdown_requested(),
    )


def _record_run(system: RunSystem, scenario: Scenario) -> Run:
    """Record all that a run needs before its first message."""
    with open_display(scenario.generated_customer_count) as display:
        left_over = retry_transient(system.broker.count_waiting_tasks)
        if left_over:
            display.log(
                f"the broker holds {pluralize(left_over, 'task')} of earlier runs;"
                " the workers complete them too"
            )
        run = record_run(
            system.database, scenario, system.settings.home, progress=display.add_customers
        )
        for rejects in run.rejects:
            display.log(f"{rejects.summary}; see {rejects.file}")
        return run


def _play(
    system: RunSystem,
    run: Run,
    options: RunOptions,
    display: ProgressDisplay,
    is_shutdown_requested: Callable[[], bool],
) -> RunObservations:
    """Play a run with all its observers, and stop its worker."""
    worker = system.worker
    campaign_ids = [run_campaign.campaign.id for run_campaign in run.campaigns]
    sampler = Sampler(
        system.broker,
        None if worker is None else lambda: worker.pid,
        database_pid=find_database_server(system.database),
    )
    sweeper = Sweeper(system.database, system.app, system.broker, campaign_ids, display.log)
    injector = _make_injector(system, run, display.log)
    observers: list[RunObserver] = [display]
    observers.append(NightlyRollups(system.app, run, system.settings.zone, display.log))
    if worker is not None:
        observers.append(WorkerMonitor(worker, display.log))
    if options.should_record:
        observers.append(BackgroundObserver(sampler.run_until, "sampler"))
    if options.should_sweep:
        observers.append(BackgroundObserver(sweeper.run_until, "sweeper"))
    if injector is not None:
        observers += [
            BackgroundObserver(partial(injector.inject_when_due, fault), "fault")
            for fault in run.scenario.faults
        ]
    player = RunPlayer(
        system,
        run,
        options.batch_size,
        observers=observers,
        is_shutdown_requested=is_shutdown_requested,
        log=display.log,
    )
    observations = player.play()
    _stop_worker(system)
    return replace(
        observations,
        samples=sampler.samples,
        requeued_count=sweeper.requeued_count,
        injected_faults=() if injector is None else tuple(injector.injected_faults),
    )


def _make_injector(system: RunSystem, run: Run, log: Callable[[str], None]) -> FaultInjector | None:
    if system.local_stack is None or system.worker is None:
        return None
    return FaultInjector(
        run=run,
        database=system.database,
        stack=system.local_stack,
        worker=system.worker,
        log=log,
    )


def _stop_worker(system: RunSystem) -> None:
    """Stop the run's own worker while the result is verified."""
    if system.worker is None:
        return
    if system.local_stack is not None:
        system.worker.kill()  # its broker is discarded as well: there is nothing to hand back
    else:
        system.worker.request_stop()


def _verify(
    system: RunSystem, run: Run, observations: RunObservations, conditions: RunConditions
) -> RunResult:
    """End a run on record, and judge it."""
    database = system.database
    database.close()  # SQLite's connections have cached up to 32 MB each
    campaign_ids = [run_campaign.campaign.id for run_campaign in run.campaigns]
    retry_transient(partial(roll_up_engagement, database, system.settings.zone, campaign_ids))
    retry_transient(partial(_end_run, database, run, observations.state))
    retry_transient(database.analyze)
    return retry_transient(partial(judge_run, database, run, observations, conditions))


def _describe_conditions(
    system: RunSystem, options: RunOptions, machine: Mapping[str, str]
) -> RunConditions:
    return RunConditions(
        workers=None if options.is_attached else options.workers,
        batch_size=options.batch_size,
        database=system.database.engine.dialect.name,
        durability=system.database.read_durability_settings(),
        machine=machine,
        versions=read_versions(),
        timezone=system.settings.timezone,
        log=None if system.worker is None else system.worker.log,
    )


def _archive_result(
    database: Database, result: RunResult, options: RunOptions
) -> tuple[Path | None, str | None]:
    """Store a result; return its page, or why it could not be stored."""
    if not options.should_record:
        with suppress(OSError):  # it contains rejected rows
            result.run.folder.rmdir()
        return None, None
    from simulator.pages.result_page import render_result_page  # loads the chart library

    try:
        page = retry_transient(
            partial(store_result, database, result, render_result_page, series=options.series)
        )
    except OSError as error:
        return None, f"{error.filename or result.run.folder}: {error.strerror}"
    except SQLAlchemyError as error:
        return None, f"the database: {database.summarize_error(error)}"
    except DrawingFailed as error:
        return None, str(error)
    return page, None


def _discard_remaining_tasks(system: RunSystem, run: Run) -> None:
    """Stop our worker, and remove the queued tasks of a run that was aborted."""
    if system.worker is not None:
        system.worker.stop()
    system.broker.drop_tasks([run_campaign.campaign.id for run_campaign in run.campaigns])
    if system.worker is None:
        message = "attached workers may continue with the tasks that they hold"
        print(message, file=sys.stderr, flush=True)


@contextmanager
def _add_run_to_errors(system: RunSystem, run: Run) -> Iterator[None]:
    """Name the run in errors within the block, and give up a run that is interrupted."""
    hint = f"see sendtrace report --run {run.id}"
    try:
        with system.readable_errors():
            yield
    except KeyboardInterrupt:
        with suppress(SQLAlchemyError, SendtraceError):
            _end_run(system.database, run, RunState.INTERRUPTED)
        raise RunInterrupted(f"run {run.id} was interrupted; {hint}") from None
    except SendtraceError as error:
        raise RunFailed(f"{error}\nrun {run.id} did not finish; {hint}") from error


def _end_run(database: Database, run: Run, state: RunState) -> None:
    now = run.campaigns[0].campaign.clock.now()
    with database.write() as connection:
        if state is RunState.COMPLETE:
            registration.finish_run(connection, run.id, now)
        else:
            registration.give_up_run(connection, run.id, SystemClock().now(), CampaignState(state))
