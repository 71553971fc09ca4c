"""One run, from its first row to its verdict."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from celery import Celery
from sqlalchemy.exc import SQLAlchemyError

from simulator.faults.inject import FaultInjector, FaultProxies, lines, reject_unsupported_faults
from simulator.figures import WORKERS_CPU, WORKERS_MEMORY
from simulator.results.archive import store_result
from simulator.results.result import RunConditions, RunResult, RunState, judge_run
from simulator.retry import retry_transient
from simulator.run import environment
from simulator.run.play import RunPlayer
from simulator.run.progress import open_display
from simulator.run.shutdown import catch_shutdown_request
from simulator.scenario.file import Scenario
from simulator.schema import open_database
from simulator.setup.record import Run, record_run, start_run
from simulator.stack.broker import Broker, open_configured_broker
from simulator.stack.local import LocalBroker, LocalWorker, start_local_worker
from tracker.clock import SystemClock
from tracker.errors import SendtraceError, UsageError
from tracker.record import catalog
from tracker.record.rollup import roll_up_engagement
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.text import pluralize
from workers.gateways.safety import check_gateway


class RunFailed(SendtraceError):
    """A run that had begun came to no end."""


class RunInterrupted(SendtraceError):
    """A run was told to stop."""

    exit_code = 130


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run a scenario, as opposed to what is in it.

    ``should_record`` keeps the result, with what is sampled meanwhile; ``should_sweep`` sends on what
    stands still. ``series`` is the first of the runs that this one repeats.
    """

    workers: int
    batch_size: int
    attach: bool
    should_record: bool = True
    should_sweep: bool = True
    series: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """The result of a run, and the ``page`` that shows it. Without one it was not to be recorded,
    or that failed for the reason that ``archive_error`` gives. ``is_shutdown_requested``: to come to an end."""

    result: RunResult
    page: Path | None = None
    archive_error: str | None = None
    is_shutdown_requested: bool = False


def simulate(
    scenario: Scenario, settings: Settings, options: RunOptions, tell: Callable[[RunResult], None]
) -> RunOutcome:
    """Play a scenario through real workers, judge what came of it, ``tell`` and keep it.

    Raises :exc:`UsageError`, before anything is written, where it can't be played, and
    :exc:`SendtraceError` where something broke on the way.
    """
    _reject_unsampled_thresholds(scenario, options)
    reject_unsupported_faults(scenario, settings, attach=options.attach)
    settings.prepare_home()
    machine = environment.describe_machine(settings.home)
    with ExitStack() as stack:
        own = None
        if not (settings.broker_url or options.attach):
            own = stack.enter_context(LocalStack.start(scenario, settings))
            settings = own.lines.driver_settings
        database = stack.enter_context(closing(open_database(settings)))
        for kind in scenario.network_gateways:
            check_gateway(kind, "{}", database)
        # An app of this run's own: it holds connections to the run's broker.
        app = stack.enter_context(
            Celery("driver", set_as_current=False, config_source="celeryconfig")
        )
        app.conf.task_publish_retry = False  # we wait ourselves, and say so
        broker, worker = _open_broker_and_worker(stack, app, settings, options, own)
        stack.enter_context(database.readable_errors())
        stack.enter_context(broker.readable_errors())
        bars = stack.enter_context(ExitStack())
        shown = bars.enter_context(open_display(scenario.generated_customer_count))
        left = retry_transient(broker.count_waiting_tasks)
        if left:
            shown.log(
                f"the broker holds {pluralize(left, 'task')} of before, which are done as well"
            )
        run = record_run(database, scenario, settings.home, shown.customers)
        for rejects in run.rejects:
            shown.log(f"{rejects.summary}; see {rejects.file}")
        for block in (
            _add_run_to_errors(database, run),
            database.readable_errors(),
            broker.readable_errors(),
        ):
            stack.enter_context(block)
        if worker is not None:
            worker.wait_until_ready(app)
        is_asked = stack.enter_context(catch_shutdown_request())
        run = retry_transient(partial(start_run, database, run))
        faults = None
        if own is not None and worker is not None and scenario.faults:
            faults = FaultInjector(run, database, own.broker, worker, own.lines, shown.log)
        play = RunPlayer(
            database, app, run, broker, worker, shown, zone=settings.zone, faults=faults
        )
        observed = play.play(
            options.batch_size,
            is_asked,
            should_record=options.should_record,
            should_sweep=options.should_sweep,
        )
        if worker is not None:
            worker.request_stop()  # that takes it two seconds, in which all is checked
        shown.log("checking it all")
        retry_transient(partial(roll_up_engagement, database, settings.zone))
        ended = _finish_run if observed.state is RunState.COMPLETE else _abandon_run
        retry_transient(partial(ended, database, run))
        retry_transient(database.analyze)
        conditions = RunConditions(
            workers=None if options.attach else options.workers,
            batch_size=options.batch_size,
            database=database.engine.dialect.name,
            durability=database.read_durability_settings(),
            machine=machine,
            versions=environment.read_versions(),
            timezone=settings.timezone,
            log=None if worker is None else worker.log,
        )
        result = retry_transient(partial(judge_run, database, run, observed, conditions))
        bars.close()
        tell(result)
        outcome = _archive_result(database, result, options)
        if observed.state is RunState.ABORTED:
            _discard_remaining_tasks(broker, worker, run)
        return replace(outcome, is_shutdown_requested=is_asked())


def _discard_remaining_tasks(broker: Broker, worker: LocalWorker | None, run: Run) -> None:
    """Have nobody go on with a run that was aborted, as far as that is in our hands."""
    if worker is not None:
        worker.stop()
    broker.drop_tasks([loaded.campaign.id for loaded in run.campaigns])
    if worker is None:
        print("attached workers may go on with what they have taken", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class LocalStack:
    """A broker of our own, and the lines to it and to the database."""

    broker: LocalBroker
    lines: FaultProxies

    @classmethod
    @contextmanager
    def start(cls, scenario: Scenario, settings: Settings) -> Iterator["LocalStack"]:
        with LocalBroker() as broker, lines(scenario, settings, broker) as led:
            yield cls(broker, led)


def _open_broker_and_worker(
    stack: ExitStack, app: Celery, settings: Settings, options: RunOptions, own: LocalStack | None
) -> tuple[Broker, LocalWorker | None]:
    """The broker, and a worker of our own unless others are to be used; they end with ``stack``."""
    broker = open_configured_broker(settings, "--attach") if own is None else Broker(own.broker.url)
    stack.callback(broker.close)
    app.conf.broker_url = broker.url
    if options.attach:
        broker.check_workers(app)
        return broker, None
    worker = start_local_worker(
        broker=broker.url if own is None else own.lines.workers_broker,
        database=settings.resolved_database_url if own is None else own.lines.workers_database,
        processes=options.workers,
        log=settings.logs / f"worker-{os.getpid()}.log",
    )
    return broker, stack.enter_context(worker)


def _archive_result(database: Database, result: RunResult, options: RunOptions) -> RunOutcome:
    """Keep a result, if it is to be kept. It is not lost, and is told, where that can't be done."""
    if not options.should_record:
        with suppress(OSError):  # it holds rejected rows
            result.run.folder.rmdir()
        return RunOutcome(result=result)
    from simulator.pages.result_page import render_result_page  # loads the chart library

    try:
        page = retry_transient(
            partial(store_result, database, result, render_result_page, series=options.series)
        )
    except OSError as error:
        where = error.filename or result.run.folder
        return RunOutcome(result=result, archive_error=f"{where}: {error.strerror}")
    except SQLAlchemyError as error:
        return RunOutcome(
            result=result, archive_error=f"the database: {database.summarize_error(error)}"
        )
    return RunOutcome(result=result, page=page)


def _reject_unsampled_thresholds(scenario: Scenario, options: RunOptions) -> None:
    """Raise :exc:`UsageError` for thresholds on what will not be sampled."""
    for threshold in scenario.thresholds:
        of_workers = threshold.figure in (WORKERS_CPU, WORKERS_MEMORY)
        why = None
        if of_workers and options.attach:
            why = "what attached workers use can't be read from here; run without --attach"
        elif not options.should_record and (of_workers or threshold.figure.startswith("queues.")):
            why = "is sampled where the result is recorded; run without --no-record"
        if why is not None:
            raise UsageError(
                f'{scenario.path}: thresholds."{threshold.figure}": {why}, or leave it out'
            )


@contextmanager
def _add_run_to_errors(database: Database, run: Run) -> Iterator[None]:
    """A block that says, when it comes to no end, which run it was and where to look. Nobody goes
    on with what was interrupted."""
    see = f"sendtrace report --run {run.id}"
    try:
        yield
    except KeyboardInterrupt:
        with suppress(SQLAlchemyError, SendtraceError):
            _abandon_run(database, run)
        raise RunInterrupted(f"run {run.id} was interrupted; see {see}") from None
    except SendtraceError as error:
        raise RunFailed(f"{error}\nrun {run.id} did not finish; see {see}") from error


def _abandon_run(database: Database, run: Run) -> None:
    with database.write() as connection:
        catalog.give_up_run(connection, run.id, SystemClock().now())


def _finish_run(database: Database, run: Run) -> None:
    with database.write() as connection:
        catalog.finish_run(connection, run.id, run.campaigns[0].campaign.clock.now())
