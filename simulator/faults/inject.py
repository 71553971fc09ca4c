"""Inject the faults of a scenario into a run, each at its time."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import psutil
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from simulator.faults.connections import LocalStack, is_postgresql
from simulator.faults.duplicates import TaskDuplicator
from simulator.faults.proxy import SocketProxy
from simulator.scenario.faults import FaultKind, FaultSection, InjectedFault
from simulator.scenario.file import Scenario
from simulator.schema import acceptances
from simulator.setup.run import Run
from simulator.stack.local import LocalWorker
from tracker.clock import to_microseconds, to_seconds
from tracker.errors import UsageError
from tracker.settings import Settings
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.catalog import runs
from tracker.store.schema.messages import transitions

POLL_SECONDS = 0.1
"""Interval of the checks whether a fault is due, and whether its target exists."""

ACCEPTANCE_POLL_SECONDS = 0.002
"""Interval of the checks whether the gateway has accepted messages that are not recorded yet."""

TARGET_TIMEOUT_SECONDS = 60.0
"""Seconds that a fault waits for its target."""


class FaultTargetMissing(Exception):
    """A fault found no target in time; the message names it."""


def reject_unsupported_faults(scenario: Scenario, settings: Settings, *, is_attached: bool) -> None:
    """Raise UsageError for faults that the stack or the database can't have."""
    if not scenario.faults:
        return
    if is_attached or settings.broker_url:
        raise UsageError(
            f"{scenario.path}: faults: need a broker and workers that the run itself starts;"
            " remove --attach, --broker and SENDTRACE_BROKER_URL"
        )
    pauses = any(fault.kind is FaultKind.PAUSE for fault in scenario.faults)
    if pauses and not is_postgresql(settings):
        raise UsageError(
            f"{scenario.path}: faults: pause: got SQLite; expected PostgreSQL, see --database"
        )


@dataclass(kw_only=True)
class FaultInjector:
    """An injector of faults into a run on a local stack.

    Attributes:
        log: called with a line for each fault.
        injected_faults: the faults whose time has come so far, with what came of them.
    """

    run: Run
    database: Database
    stack: LocalStack
    worker: LocalWorker
    log: Callable[[str], None]
    injected_faults: list[InjectedFault] = field(default_factory=list)

    def inject_when_due(self, fault: FaultSection, stop: threading.Event) -> None:
        """Wait until a fault is due, and inject it; return early when the event is set."""
        due = fault.at.total_seconds() + to_seconds(self.run.paused)
        while (seconds_left := due - self._elapsed_seconds()) > 0:
            if stop.wait(min(seconds_left, POLL_SECONDS)):
                return
        self.log(f"fault: {fault.description}")
        at, times, cause = self._elapsed_seconds(), 0, None
        try:
            times = self._inject(fault, stop)
        except Exception as error:  # one fault may remove the target of another
            cause = str(error) if isinstance(error, FaultTargetMissing) else repr(error)
            self.log(f"fault not injected: {fault.description}: {cause}")
        self.injected_faults.append(
            InjectedFault(
                description=fault.description,
                at=at,
                until=self._elapsed_seconds(),
                times=times,
                trouble=cause,
            )
        )

    def _elapsed_seconds(self) -> float:
        """Return the seconds of the run's clock since its start."""
        return to_seconds(self.run.clock.now() - self.run.started_at)

    def _inject(self, fault: FaultSection, stop: threading.Event) -> int:
        """Inject a fault; return how many processes or tasks it hit."""
        match fault.kind:
            case FaultKind.KILL if fault.kill == "worker":
                psutil.Process(self.worker.pid).kill()
            case FaultKind.KILL if fault.when is None:
                self._kill_pool_process(stop)
            case FaultKind.KILL:
                return self._kill_pool_after_acceptance(stop)
            case FaultKind.RESTART if fault.restart == "worker":
                self.worker.restart()
            case FaultKind.RESTART:
                self.stack.broker.restart(keep_data=fault.data == "kept")
            case FaultKind.FLUSH:
                with closing(self.stack.broker.client()) as client:
                    client.flushall()
            case FaultKind.PAUSE if self.stack.database_proxy is not None:
                self._disrupt_connections(fault, [self.stack.database_proxy], stop)
            case FaultKind.PARTITION:
                self._disrupt_connections(fault, self.stack.worker_proxies, stop)
            case FaultKind.DUPLICATE_TASKS:
                return self._duplicate_tasks(fault, stop)
            case FaultKind.CLOCK:
                self._advance_clock(fault)
        return 1

    def _disrupt_connections(
        self, fault: FaultSection, proxies: Sequence[SocketProxy], stop: threading.Event
    ) -> None:
        for proxy in proxies:
            if fault.connections == "cut":
                proxy.disconnect()
            else:
                proxy.stall()
        stop.wait(fault.duration.total_seconds() / self.run.scenario.clock.speed)
        for proxy in proxies:
            proxy.resume()

    def _duplicate_tasks(self, fault: FaultSection, stop: threading.Event) -> int:
        share = fault.duplicate_tasks or 0.0
        with closing(self.stack.broker.client()) as client:
            duplicator = TaskDuplicator(client, share, self.run.scenario.seed)
            duplicator.run_until(stop)
            return duplicator.duplicated_count

    def _find_pool_processes(self) -> list[psutil.Process]:
        with suppress(psutil.Error):  # the worker itself may be restarting
            return psutil.Process(self.worker.pid).children()
        return []

    def _kill_pool_process(self, stop: threading.Event) -> None:
        """Kill the pool process that has used most CPU time, as soon as there is one."""
        for _ in _poll_until_timeout(stop, POLL_SECONDS):
            for process in sorted(self._find_pool_processes(), key=_read_cpu_seconds, reverse=True):
                with suppress(psutil.Error):
                    process.kill()
                    return
        raise FaultTargetMissing("the worker had no pool process")

    def _kill_pool_after_acceptance(self, stop: threading.Event) -> int:
        """Kill the pool after the gateway has accepted messages, before that is recorded."""
        for _ in _poll_until_timeout(stop, ACCEPTANCE_POLL_SECONDS):
            with suppress(SQLAlchemyError):
                pool = self._find_pool_processes()
                if self._has_unrecorded_acceptance():
                    for process in pool:
                        with suppress(psutil.Error):
                            process.kill()
                    if self._has_unrecorded_acceptance():  # otherwise the record was faster
                        return len(pool)
        raise FaultTargetMissing("the gateway had no accepted message that was not recorded")

    def _has_unrecorded_acceptance(self) -> bool:
        ids = self.run.campaign_ids
        accepted = sa.select(sa.func.count()).where(acceptances.c.campaign_id.in_(ids))
        recorded = sa.select(sa.func.count()).where(
            transitions.c.campaign_id.in_(ids), transitions.c.status == Status.IN_GATEWAY
        )
        with self.database.read() as connection:
            # In this order: what is recorded in between makes the difference smaller, not larger.
            return (connection.scalar(accepted) or 0) > (connection.scalar(recorded) or 0)

    def _advance_clock(self, fault: FaultSection) -> None:
        advance = to_microseconds(fault.clock or timedelta())
        with self.database.write() as connection:
            connection.execute(
                sa.update(runs).where(runs.c.id == self.run.id).values(ahead=runs.c.ahead + advance)
            )


def _poll_until_timeout(stop: threading.Event, interval: float) -> Iterator[None]:
    """Yield every `interval` seconds, until the event is set or TARGET_TIMEOUT_SECONDS are over."""
    deadline = time.monotonic() + TARGET_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        yield
        if stop.wait(interval):
            return


def _read_cpu_seconds(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
