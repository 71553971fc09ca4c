"""Drive a run: play it, end it on record, judge it and keep its result."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from simulator.faults.inject import FaultInjector
from simulator.results.observations import DriverObservations, RunState
from simulator.results.result import RunResult
from simulator.retry import OutageLimitReached
from simulator.run.driver_record import DriverRecord, load_drivers, record_observations
from simulator.run.judge import RecordedRun
from simulator.run.observers.base import BackgroundObserver, RunObserver
from simulator.run.observers.gateway_warnings import GatewayWarnings
from simulator.run.observers.nightly import NightlyRollups
from simulator.run.observers.ownership import OwnershipCheck
from simulator.run.observers.progress import ProgressDisplay, open_display
from simulator.run.observers.sampling import Sampler, find_database_server
from simulator.run.observers.sweeper import Sweeper
from simulator.run.observers.worker_monitor import WorkerMonitor
from simulator.run.options import RunOptions
from simulator.run.outcome import RunOutcome, archive_result
from simulator.run.play import RunPlayer
from simulator.run.shutdown import catch_shutdown_request
from simulator.run.system import RunSystem
from simulator.setup.heartbeat import Heartbeat
from simulator.setup.run import Run
from tracker.campaign_states import ENDED_STATES, CampaignState
from tracker.clock import to_real_seconds
from tracker.errors import SendtraceError
from tracker.queries.campaign_state import read_run_states
from tracker.record import registration
from tracker.record.rollup import roll_up_engagement
from tracker.store.database import Database


class RunFailed(SendtraceError):
    """A run that had started did not finish."""


class RunInterrupted(SendtraceError):
    """A run was interrupted by a signal."""

    exit_code = 130


def drive_run(
    system: RunSystem,
    run: Run,
    options: RunOptions,
    heartbeat: Heartbeat,
    print_result: Callable[[RunResult], None],
) -> RunOutcome:
    """Drive a run that has started to its end, or until a signal or a threshold ends it early.

    Args:
        run: the run, which this driver owns.
        heartbeat: its heartbeat, which is recorded meanwhile.
        print_result: called with the result before it is recorded.

    Raises:
        RunSuperseded: another driver has resumed the run; the result is not recorded.
    """
    with catch_shutdown_request() as is_shutdown_requested:
        with open_display() as display, system.outages.shown_on(display):
            driver = _RunDriver(system, run, options, heartbeat, display)
            state, own = driver.play(is_shutdown_requested)
            if state is not RunState.FINISHED:
                _discard_remaining_tasks(system, run, display.log)
            display.log("verifying results")
            result = _verify(system, run, state, own)
        print_result(result)
        system.outages.retry(partial(_require_ownership, system, run))
        page, archive_error = None, None
        if options.should_record:
            page, archive_error = archive_result(
                system.database, system.outages, system.settings.home, result, series=options.series
            )
        else:
            with suppress(OSError):  # it contains rejected rows
                run.folder.rmdir()
    return RunOutcome(
        result=result,
        page=page,
        archive_error=archive_error,
        is_shutdown_requested=is_shutdown_requested(),
    )


class _RunDriver:
    """A player of a run, with all its observers."""

    def __init__(
        self,
        system: RunSystem,
        run: Run,
        options: RunOptions,
        heartbeat: Heartbeat,
        display: ProgressDisplay,
    ) -> None:
        worker = system.worker
        elapsed = run.clock.now() - run.started_at
        self._system, self._run, self._options, self._display = system, run, options, display
        self._heartbeat = heartbeat
        self._sampler = Sampler(
            system.broker,
            None if worker is None else lambda: worker.pid,
            database_pid=find_database_server(system.database),
            first_second=int(to_real_seconds(elapsed, run.scenario.clock.speed)),
        )
        self._sweeper = Sweeper(
            system.database, system.app, system.broker, run.campaign_ids, display.log
        )
        self._injector = _make_injector(system, run, display.log)

    def play(
        self, is_shutdown_requested: Callable[[], bool]
    ) -> tuple[RunState, DriverObservations]:
        """Play the run, and stop its worker."""
        if self._run.resumption is not None:
            self._system.outages.retry(
                self._sweeper.sweep
            )  # its tasks went with the broker of its driver
        player = RunPlayer(
            self._system,
            self._run,
            self._options.batch_size,
            observers=self._list_observers(),
            is_shutdown_requested=is_shutdown_requested,
            log=self._display.log,
        )
        state, observations = player.play()
        _stop_worker(self._system)
        injector = self._injector
        return state, replace(
            observations,
            samples=tuple(self._sampler.samples),
            requeued_count=self._sweeper.requeued_count,
            injected_faults=() if injector is None else tuple(injector.injected_faults),
        )

    def _list_observers(self) -> list[RunObserver]:
        system, run, log = self._system, self._run, self._display.log
        observers: list[RunObserver] = [self._display, OwnershipCheck(self._heartbeat)]
        observers.append(NightlyRollups(system.app, system.outages, run, system.settings.zone, log))
        if system.worker is not None:
            observers.append(WorkerMonitor(system.worker, log))
            observers.append(GatewayWarnings(system.worker.log, log))
        if self._options.should_record:
            observers.append(BackgroundObserver(self._sampler.run_until, "sampler"))
        if self._options.should_sweep:
            observers.append(BackgroundObserver(self._sweeper.run_until, "sweeper"))
        if self._injector is not None:
            observers += [
                BackgroundObserver(partial(self._injector.inject_when_due, fault), "fault")
                for fault in run.pending_faults
            ]
        return observers


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


def _verify(system: RunSystem, run: Run, state: RunState, own: DriverObservations) -> RunResult:
    """End a run on record, and judge it."""
    database = system.database
    database.close()  # SQLite's connections have cached up to 32 MB each
    system.outages.retry(
        partial(roll_up_engagement, database, system.settings.zone, run.campaign_ids)
    )
    system.outages.retry(partial(_end_run, system, run, state, own))
    drivers = system.outages.retry(partial(_load_drivers, database, run))
    return RecordedRun(run=run, state=state, drivers=drivers).judge(database, system.outages)


def _load_drivers(database: Database, run: Run) -> tuple[DriverRecord, ...]:
    with database.read() as connection:
        return tuple(load_drivers(connection, run.id))


def _discard_remaining_tasks(system: RunSystem, run: Run, log: Callable[[str], None]) -> None:
    """Stop our worker, and remove the queued tasks of a run that ends early.

    Another driver may resume the run once its end is on record, and then queues tasks of its own.
    """
    if system.worker is not None:
        system.worker.stop()
    system.outages.retry(partial(system.broker.drop_tasks, run.campaign_ids))
    if system.worker is None:
        log("attached workers may continue with the tasks that they hold")


def _require_ownership(system: RunSystem, run: Run) -> None:
    """Raise RunSuperseded if another driver has resumed the run since its end."""
    with system.database.write() as connection:
        registration.lock_driven_run(connection, run.id, run.driver_number)


@contextmanager
def add_run_to_errors(system: RunSystem, run: Run, *, has_started: bool) -> Iterator[None]:
    """Name the run in errors within the block, and give up a run that is interrupted.

    Args:
        has_started: whether it has a driver on record, so that another one can resume it.
    """
    report = f"see sendtrace report --run {run.id}"
    judge = f"run {run.id} has ended; sendtrace judge {run.id} gives its result"
    never_started = "it never started, so run the scenario again"
    resume = f"sendtrace resume {run.id} continues it"
    try:
        with system.readable_errors():
            yield
    except KeyboardInterrupt:
        if _has_ended(system, run):
            raise RunInterrupted(f"interrupted; {judge}") from None
        with suppress(SQLAlchemyError, SendtraceError):
            _end_run(system, run, RunState.INTERRUPTED)
        hint = f"{report}; {resume}" if has_started else never_started
        raise RunInterrupted(f"run {run.id} was interrupted; {hint}") from None
    except OutageLimitReached as error:
        raise _end_by_outage(system, run, error, has_started=has_started) from error
    except registration.RunSuperseded as error:
        raise RunFailed(f"{error}\nthe other driver continues run {run.id}; {report}") from error
    except SendtraceError as error:
        if _has_ended(system, run):
            raise RunFailed(f"{error}\n{judge}") from error
        hint = f"{report}; 30 s from now, {resume}" if has_started else never_started
        raise RunFailed(f"{error}\nrun {run.id} did not finish; {hint}") from error


def _end_by_outage(
    system: RunSystem, run: Run, error: OutageLimitReached, *, has_started: bool
) -> RunFailed:
    """Give up a run that an outage has outlasted; return the error that says what is left."""
    if _has_ended(system, run):
        return RunFailed(
            f"{error}\nrun {run.id} has ended; sendtrace judge {run.id} gives its result"
        )
    if system.worker is not None:
        system.worker.kill()  # a warm shutdown would wait for the service as well
    state = "was interrupted"
    when = "once it is available again"
    try:
        _end_run(system, run, RunState.INTERRUPTED)
    except (SQLAlchemyError, SendtraceError):
        state = "is interrupted, which is not on record: the database is unavailable"
        when = "once it is available again and 30 s have passed"
    if not has_started:
        return RunFailed(
            f"{error}\nrun {run.id} {state}; it never started, so run the scenario again"
        )
    return RunFailed(
        f"{error}\nrun {run.id} {state}; {when}, sendtrace resume {run.id} continues it"
    )


def _has_ended(system: RunSystem, run: Run) -> bool:
    """Return whether the end of a run is on record; False if that can't be read."""
    with suppress(SQLAlchemyError, SendtraceError), system.database.read() as connection:
        return read_run_states(connection, [run.id])[run.id] in ENDED_STATES
    return False


def _end_run(
    system: RunSystem, run: Run, state: RunState, own: DriverObservations | None = None
) -> None:
    """Record the end of a run and, if it is known, what its driver has seen.

    Raises:
        RunSuperseded: another driver has resumed the run.
    """
    now = run.clock.now()
    with system.database.write() as connection:
        if not registration.record_heartbeat(connection, run.id, run.driver_number):
            raise registration.RunSuperseded
        if own is not None:
            record_observations(connection, run, own)
        if state is RunState.FINISHED:
            registration.finish_run(connection, run.id, now)
        else:
            registration.give_up_run(connection, run.id, CampaignState(state))
