"""One run, from its first row to its verdict."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

from celery import Celery

from simulator import ledger
from simulator.broker import Broker
from simulator.load import Run, drive, record_run
from simulator.progress import Display, Standing, display
from simulator.results import Result, judge_run
from simulator.scenario import Scenario
from simulator.stack import Worker, embedded_broker, local_worker
from tracker import catalog
from tracker.database import Database, check_reachable, connect, migrate
from tracker.errors import SendtraceError, UsageError
from tracker.report import make_reports
from tracker.settings import Settings
from workers.app import app

POLL = 0.1
"""Seconds between two looks at how far the messages are."""

STANDSTILL = 20.0
"""Seconds without any progress or any task at the broker, after which nothing will come."""


class Standstill(SendtraceError):
    """Messages are unsettled, and nothing is on its way that would settle them."""


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
        shown = stack.enter_context(display(_customers(scenario)))
        for key in scenario.without_effect:
            shown.say(f"note: {key} has no effect in this version")
        run = record_run(database, scenario, settings.home, shown.customers)
        for rejects in run.rejects:
            shown.say(
                f"{rejects.audience.name}: {rejects.count:,} rows could not be read;"
                f" they are in {rejects.file}"
            )
        _play(database, app, run, options.batch_size, broker, worker, shown)
        shown.say("all messages are settled; checking them")
        with database.write() as connection:
            catalog.finish_run(connection, run.id, run.campaigns[0].campaign.clock.now())
        return judge_run(
            database,
            run,
            workers=None if options.attach else options.workers,
            batch_size=options.batch_size,
        )


def open_database(settings: Settings) -> Database:
    """The configured database, reachable and its tables up to date."""
    with ExitStack() as stack:
        database = stack.enter_context(closing(connect(settings.database)))
        check_reachable(database)
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
    sizes = [each.audience for each in scenario.campaigns if isinstance(each.audience, int)]
    return sum(sizes) if len(sizes) == len(scenario.campaigns) else None


def _play(
    database: Database,
    app: Celery,
    run: Run,
    batch_size: int,
    broker: Broker,
    worker: Worker | None,
    shown: Display,
) -> None:
    """Send all messages on their way and wait until every one has settled."""
    if worker is not None:
        worker.wait_until_ready(app)
    watch = _Watch(database, run, broker)
    for now in _ticks(drive(database, app, run, batch_size)):
        if worker is not None:
            worker.check()
        standing = watch.look(now)
        shown.messages(standing, run.size)
        if standing.settled == run.size:
            return


def _ticks(driving: Iterator[int]) -> Iterator[float]:
    """Moments to look at the run: now and then while it is driven, and on until nobody asks."""
    looked = time.monotonic()
    for _ in driving:
        if time.monotonic() - looked >= POLL:
            looked = time.monotonic()
            yield looked
    while True:
        yield time.monotonic()
        time.sleep(POLL)


class _Watch:
    """Looks how far the messages are, and notices when they stand still."""

    def __init__(self, database: Database, run: Run, broker: Broker) -> None:
        self._database = database
        self._campaigns = [loaded.campaign for loaded in run.campaigns]
        self._broker = broker
        self._standing = Standing(0, 0, 0, 0)
        self._since = time.monotonic()

    def look(self, now: float) -> Standing:
        with self._database.read() as connection:
            standing = Standing.of(make_reports(connection, self._campaigns))
        if standing != self._standing or self._broker.waiting_tasks():
            self._standing, self._since = standing, now
        elif now - self._since > STANDSTILL:
            raise Standstill(
                f"{standing.recorded - standing.settled:,} messages stand still: for"
                f" {STANDSTILL:.0f} s nothing has moved and no task is left at the broker"
            )
        return standing
