"""What goes wrong in a run on purpose, each at its time."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import psutil
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from simulator.background import run_in_background
from simulator.faults.duplicates import TaskDuplicator
from simulator.faults.proxy import SocketProxy, Upstream
from simulator.scenario.faults import FaultKind, FaultSection, InjectedFault
from simulator.scenario.file import Scenario
from simulator.schema import acceptances
from simulator.setup.record import Run
from simulator.stack.local import LocalBroker, LocalWorker
from tracker.clock import to_microseconds, to_seconds
from tracker.errors import UsageError
from tracker.settings import Settings
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.catalog import runs
from tracker.store.schema.messages import transitions

POLL_SECONDS = 0.1
"""Seconds between two looks whether it is time for a fault, or whether there is what it harms."""

ACCEPTANCE_POLL_SECONDS = 0.002
"""The same, at whether the gateway has accepted what is not on record."""

TARGET_TIMEOUT_SECONDS = 60.0
"""Seconds that a fault waits for what it harms."""

POSTGRESQL_PORT = 5432
"""Where PostgreSQL is unless it is said; also part of the name of its sockets."""


def reject_unsupported_faults(scenario: Scenario, settings: Settings, *, attach: bool) -> None:
    """Raise :exc:`UsageError` for faults that can't be played here: they need a stack of ours."""
    if not scenario.faults:
        return
    if attach or settings.broker_url:
        raise UsageError(
            f"{scenario.path}: faults: they are played on a stack of our own only; leave out"
            " --attach, --broker and SENDTRACE_BROKER_URL"
        )
    pauses = any(fault.kind is FaultKind.PAUSE for fault in scenario.faults)
    if pauses and not _is_postgresql(settings):
        raise UsageError(
            f"{scenario.path}: faults: a database that is a file can't be silent; expected"
            " PostgreSQL, see --database"
        )


def _is_postgresql(settings: Settings) -> bool:
    return sa.make_url(settings.resolved_database_url).get_backend_name() == "postgresql"


@dataclass(frozen=True)
class FaultProxies:
    """The lines of a run that can be disturbed, as far as that is to happen: everybody's to the
    database, and the workers' to broker and database."""

    database: SocketProxy | None
    workers: Sequence[SocketProxy]
    driver_settings: Settings
    workers_broker: str
    workers_database: str


@contextmanager
def lines(scenario: Scenario, settings: Settings, broker: LocalBroker) -> Iterator[FaultProxies]:
    """The lines that a scenario's faults need, for as long as the block lasts."""
    kinds = {fault.kind for fault in scenario.faults}
    with ExitStack() as stack:

        def to_database(url: str, name: str) -> tuple[SocketProxy, str]:
            folder = broker.folder / name
            folder.mkdir(mode=0o700)
            socket = folder / f".s.PGSQL.{POSTGRESQL_PORT}"
            line = stack.enter_context(SocketProxy(socket, _parse_upstream(url)).running())
            led = sa.make_url(url).set(host=None, port=POSTGRESQL_PORT, query={"host": str(folder)})
            return line, led.render_as_string(hide_password=False)

        url, everybody = settings.resolved_database_url, None
        if FaultKind.PAUSE in kinds:
            everybody, url = to_database(url, "everybody")
        driver_settings = settings.model_copy(update={"database_url": url})
        theirs: list[SocketProxy] = []
        workers_broker, workers_database = broker.url, url
        if FaultKind.PARTITION in kinds:
            place = SocketProxy(broker.folder / "workers.sock", Upstream(path=broker.socket))
            theirs.append(stack.enter_context(place.running()))
            workers_broker = f"redis+socket://{place.path}"
            if _is_postgresql(settings):
                line, workers_database = to_database(url, "workers")
                theirs.append(line)
        yield FaultProxies(everybody, theirs, driver_settings, workers_broker, workers_database)


def _parse_upstream(url: str) -> Upstream:
    parsed = sa.make_url(url)
    host = parsed.query.get("host") or parsed.host or "localhost"
    port = parsed.port or POSTGRESQL_PORT
    if isinstance(host, str) and host.startswith("/"):
        return Upstream(path=Path(host) / f".s.PGSQL.{port}")
    return Upstream(host=str(host), port=port)


class FaultTargetMissing(Exception):
    """A fault found nothing to harm; says why."""


@dataclass
class FaultInjector:
    """Plays the faults of a run, each in a thread of its own."""

    run: Run
    database: Database
    broker: LocalBroker
    worker: LocalWorker
    lines: FaultProxies
    print_line: Callable[[str], None]
    happened: list[InjectedFault] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        """A block in which they happen; at its end all is well again."""
        with ExitStack() as stack:
            for fault in self.run.scenario.faults:
                stack.enter_context(
                    run_in_background(partial(self._inject_when_due, fault), "fault")
                )
            yield

    def _elapsed_seconds(self) -> float:
        """Seconds of the run's time."""
        clock = self.run.campaigns[0].campaign.clock
        return to_seconds(clock.now() - self.run.started_at)

    def _inject_when_due(self, fault: FaultSection, stop: threading.Event) -> None:
        while (left := fault.at.total_seconds() - self._elapsed_seconds()) > 0:
            if stop.wait(min(left, POLL_SECONDS)):
                return
        self.print_line(fault.told)
        at, times, trouble = self._elapsed_seconds(), 0, None
        try:
            times = self._inject(fault, stop)
        except Exception as error:  # one fault may be in the way of another
            trouble = str(error) if isinstance(error, FaultTargetMissing) else repr(error)
            self.print_line(f"{fault.told}: it did not happen: {trouble}")
        self.happened.append(
            InjectedFault(
                told=fault.told, at=at, until=self._elapsed_seconds(), times=times, trouble=trouble
            )
        )

    def _inject(self, fault: FaultSection, stop: threading.Event) -> int:
        """Do what goes wrong, and say how many times it did."""
        match fault.kind:
            case FaultKind.KILL if fault.kill == "worker":
                psutil.Process(self.worker.process_id()).kill()
            case FaultKind.KILL if fault.when is None:
                self._kill_pool_child(stop)
            case FaultKind.KILL:
                return self._kill_pool_after_acceptance(stop)
            case FaultKind.RESTART if fault.restart == "worker":
                self.worker.restart()
            case FaultKind.RESTART:
                self.broker.restart(keep=fault.data == "kept")
            case FaultKind.FLUSH:
                with closing(self.broker.client()) as client:
                    client.flushall()
            case FaultKind.PAUSE if self.lines.database is not None:
                self._disrupt_connections(fault, [self.lines.database], stop)
            case FaultKind.PARTITION:
                self._disrupt_connections(fault, self.lines.workers, stop)
            case FaultKind.DUPLICATE_TASKS:
                with closing(self.broker.client()) as client:
                    share, seed = fault.duplicate_tasks or 0.0, self.run.scenario.seed
                    duplicator = TaskDuplicator(client, share, seed)
                    duplicator.run_until(stop)
                    return duplicator.duplicated_count
            case FaultKind.CLOCK:
                self._advance_clock(fault)
        return 1

    def _disrupt_connections(
        self, fault: FaultSection, those: Sequence[SocketProxy], stop: threading.Event
    ) -> None:
        for line in those:
            if fault.connections == "cut":
                line.disconnect()
            else:
                line.stall()
        stop.wait(fault.duration.total_seconds() / self.run.scenario.clock.speed)
        for line in those:
            line.resume()

    def _find_pool_processes(self) -> list[psutil.Process]:
        with suppress(psutil.Error):  # the worker itself may be starting again
            return psutil.Process(self.worker.process_id()).children()
        return []

    def _kill_pool_child(self, stop: threading.Event) -> None:
        """Kill the one of the worker's pool that has worked most, as soon as there is one."""
        for _ in _poll_until_timeout(stop, POLL_SECONDS):
            for child in sorted(self._find_pool_processes(), key=_read_cpu_seconds, reverse=True):
                with suppress(psutil.Error):
                    child.kill()
                    return
        raise FaultTargetMissing("the worker had no pool process")

    def _kill_pool_after_acceptance(self, stop: threading.Event) -> int:
        """Kill the pool between the gateway's acceptance of messages and its being recorded."""
        for _ in _poll_until_timeout(stop, ACCEPTANCE_POLL_SECONDS):
            with suppress(SQLAlchemyError):
                pool = self._find_pool_processes()
                if self._has_unrecorded_acceptance():
                    for child in pool:
                        with suppress(psutil.Error):
                            child.kill()
                    if self._has_unrecorded_acceptance():  # else it was too late by a hair
                        return len(pool)
        raise FaultTargetMissing("the gateway had accepted nothing that was not on record")

    def _has_unrecorded_acceptance(self) -> bool:
        ids = [loaded.campaign.id for loaded in self.run.campaigns]
        accepted = sa.select(sa.func.count()).where(acceptances.c.campaign_id.in_(ids))
        recorded = sa.select(sa.func.count()).where(
            transitions.c.campaign_id.in_(ids), transitions.c.status == Status.IN_GATEWAY
        )
        with self.database.read() as connection:
            # In this order: what is recorded after it was accepted only makes it fewer.
            return (connection.scalar(accepted) or 0) > (connection.scalar(recorded) or 0)

    def _advance_clock(self, fault: FaultSection) -> None:
        forward = to_microseconds(fault.clock or timedelta())
        with self.database.write() as connection:
            connection.execute(
                sa.update(runs).where(runs.c.id == self.run.id).values(ahead=runs.c.ahead + forward)
            )


def _poll_until_timeout(stop: threading.Event, seconds: float) -> Iterator[None]:
    """Come back every so many seconds, until it is to stop or has taken too long."""
    deadline = time.monotonic() + TARGET_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        yield
        if stop.wait(seconds):
            return


def _read_cpu_seconds(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
