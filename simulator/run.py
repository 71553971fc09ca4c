"""One run, from its first row to its verdict."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial

from celery import Celery

from simulator import ledger
from simulator.broker import Broker
from simulator.load import Run, begin, drive, record_run
from simulator.nights import Nights
from simulator.patience import patiently
from simulator.progress import Display, display
from simulator.results import Result, judge_run
from simulator.scenario import Scenario
from simulator.stack import Worker, embedded_broker, local_worker
from simulator.watch import Watch
from tracker import catalog
from tracker.database import Database, check_reachable, connect, migrate
from tracker.errors import SendtraceError, UsageError
from tracker.rollup import roll_up
from tracker.settings import Settings
from workers.app import app
from workers.gateways.safety import check_gateway

POLL = 0.1
"""Seconds between two looks at how far the messages are."""


class RunFailed(SendtraceError):
    """A run that had begun came to no end."""


class Interrupted(SendtraceError):
    """A run was told to stop."""

    exit_code = 130


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run a scenario, as opposed to what is in it."""

    workers: int
    batch_size: int
    attach: bool


def simulate(scenario: Scenario, settings: Settings, options: Options) -> Result:
    """Play a scenario through real workers and judge what came of it.

    Raises :exc:`UsageError`, before anything is written, where it can't be played, and
    :exc:`SendtraceError` where something broke on the way.
    """
    settings.prepare_home()
    with ExitStack() as stack:
        database = stack.enter_context(closing(open_database(settings)))
        for kind in scenario.network_gateways:
            check_gateway(kind, "{}", database)
        worker = None
        if options.attach:
            broker = _configured_broker(settings)
            app.conf.broker_url = broker.url
            broker.check_workers(app)
        else:
            if settings.broker_url:
                broker = _configured_broker(settings)
            else:
                broker = Broker(stack.enter_context(embedded_broker()))
            worker = stack.enter_context(
                local_worker(
                    broker=broker.url,
                    database=settings.database,
                    processes=options.workers,
                    log=settings.logs / f"worker-{os.getpid()}.log",
                )
            )
            app.conf.broker_url = broker.url
        stack.callback(broker.close)
        stack.callback(app.close)
        app.conf.task_publish_retry = False  # we wait ourselves, and say so
        stack.enter_context(database.failing_plainly())
        stack.enter_context(broker.failing_plainly())
        shown = stack.enter_context(display(_customers(scenario)))
        run = record_run(database, scenario, settings.home, shown.customers)
        for rejects in run.rejects:
            shown.say(f"{rejects.summary}; see {rejects.file}")
        for block in (_named(run), database.failing_plainly(), broker.failing_plainly()):
            stack.enter_context(block)
        if worker is not None:
            worker.wait_until_ready(app)
        run = patiently(partial(begin, database, run))
        nights = Nights(app, run, settings.zone, shown)
        _play(database, app, run, options.batch_size, broker, worker, nights, shown)
        shown.say("nothing more is to come; checking it all")
        patiently(partial(roll_up, database, settings.zone))
        patiently(partial(_finish, database, run))
        patiently(database.take_stock)
        return judge_run(
            database,
            run,
            workers=None if options.attach else options.workers,
            batch_size=options.batch_size,
            log=None if worker is None else worker.log,
        )


@contextmanager
def _named(run: Run) -> Iterator[None]:
    """A block that says, when it comes to no end, which run it was and where to look."""
    see = f"sendtrace report --run {run.id}"
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"run {run.id} was interrupted; see {see}") from None
    except SendtraceError as error:
        raise RunFailed(f"{error}\nrun {run.id} did not finish; see {see}") from error


def _finish(database: Database, run: Run) -> None:
    with database.write() as connection:
        catalog.finish_run(connection, run.id, run.campaigns[0].campaign.clock.now())


def open_database(settings: Settings) -> Database:
    """The configured database, reachable and its tables up to date."""
    with ExitStack() as stack:
        database = stack.enter_context(closing(connect(settings.database)))
        check_reachable(database)
        with database.failing_plainly():
            migrate(database)
            ledger.prepare(database)
        stack.pop_all()  # it stays open where nothing went wrong
    return database


def _configured_broker(settings: Settings) -> Broker:
    if not settings.broker_url:
        raise UsageError("--attach needs a broker; set SENDTRACE_BROKER_URL or give --broker URL")
    broker = Broker(settings.broker_url)
    broker.check_reachable()
    return broker


def _customers(scenario: Scenario) -> int | None:
    audiences = [each.audience for each in scenario.campaigns if each.same_as is None]
    sizes = [size for size in audiences if isinstance(size, int)]
    return sum(sizes) if len(sizes) == len(audiences) else None


def _play(
    database: Database,
    app: Celery,
    run: Run,
    batch_size: int,
    broker: Broker,
    worker: Worker | None,
    nights: Nights,
    shown: Display,
) -> None:
    """Send all messages on their way and wait until every one has settled."""
    watch = Watch(
        database,
        [loaded.campaign for loaded in run.campaigns],
        broker,
        app,
        begun_by=max(loaded.begins_at for loaded in run.campaigns),
    )
    for now in _ticks(drive(database, app, run, batch_size, watch.is_settled)):
        if worker is not None:
            worker.check()
        standing = watch.look(now)
        nights.look(watch.reports)
        shown.messages(standing, run.size)
        if standing.is_over(run.size):
            return


def _ticks(driving: Iterator[int]) -> Iterator[float]:
    """Moments to look at the run: now and then while it is driven, and on until nobody asks."""
    looked = time.monotonic()
    for driven in driving:
        if not driven:
            time.sleep(POLL)
        if time.monotonic() - looked >= POLL:
            looked = time.monotonic()
            yield looked
    while True:
        yield time.monotonic()
        time.sleep(POLL)
