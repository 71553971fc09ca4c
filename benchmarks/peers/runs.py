"""One run of a system: what moving its messages cost, and how many of them are complete."""

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

import psycopg

from benchmarks.context import DatabaseBenchmark
from benchmarks.meter import Cost
from benchmarks.peers.record import BROKER_VARIABLE, DATABASE_VARIABLE, STATUSES, create_tables
from benchmarks.peers.systems import PEERS, SENDTRACE
from benchmarks.pipeline import make_run_error, run_pipeline
from simulator.stack.child import ChildCommand, ChildProcess
from tracker.status import Status

RUN_SECONDS = 90
"""How long a peer's run may take. One that takes longer is ended, and counted as it is then."""

POLL_SECONDS = 0.25

WARM_UP_MESSAGES = 100
"""Messages that a peer delivers before the run, so that its workers are ready, as sendtrace's."""

COUNT_COMPLETE = """
SELECT count(*) FROM (
    SELECT number FROM transitions WHERE status = ANY(%(statuses)s)
    GROUP BY number HAVING count(DISTINCT status) = %(expected)s
) AS complete
"""
"""Counts messages with every transition, in the tables of sendtrace and in those of a peer."""

FIND_UNFINISHED = "SELECT 1 FROM messages WHERE status <> %s LIMIT 1"

READ_SPAN = "SELECT extract(epoch FROM min(at)), extract(epoch FROM max(at)) FROM transitions"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of a system.

    Attributes:
        complete: messages that have every transition at the end.
        cost: from the first step or transition to the last one.
    """

    complete: int
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class Form:
    """A system with a number of messages per task, and its runs."""

    system: str
    batch_size: int
    messages: int
    runs: list[Run] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name in the log and in warnings."""
        return f"{self.system}, {self.batch_size:,} per task"


def run_form(bench: DatabaseBenchmark, form: Form, broker_url: str) -> Run:
    """Move messages with a system, on an empty database and an empty broker.

    Raises:
        BenchmarkRunFailed: the system's processes failed.
    """
    with bench.create_database() as url:
        if form.system == SENDTRACE:
            options = ("--broker", broker_url, "--batch-size", str(form.batch_size))
            cost = run_pipeline(bench, url, form.name, *options, messages=form.messages).cost
        else:
            create_tables(url, form.messages)
            cost = _run_peer(bench, form, url, broker_url)
            bench.check_load(form.name, cost)
        return Run(complete=_count_complete(url), cost=cost)


def _run_peer(bench: DatabaseBenchmark, form: Form, url: str, broker_url: str) -> Cost:
    peer = PEERS[form.system]
    log = bench.folder / f"{form.system}.log"
    log.write_bytes(b"")
    environment = {DATABASE_VARIABLE: url, BROKER_VARIABLE: broker_url}

    def start(name: str, *arguments: str) -> ChildProcess:
        command = [sys.executable, "-m", *arguments]
        child = ChildProcess(
            ChildCommand(name=name, command=command, environment=environment, log=log)
        )
        children.callback(child.kill)
        return child

    def deliver(messages: int, batch_size: int) -> None:
        connection.execute("TRUNCATE messages, transitions")
        driver = start("driver", peer.module, "enqueue", str(messages), str(batch_size))
        if not _wait_until_delivered(connection, workers, driver):
            raise make_run_error(f"{form.system}: a process exited", log)

    with ExitStack() as children, psycopg.connect(url, autocommit=True) as connection:
        if peer.prepare:
            start("prepare", *peer.prepare).wait()
        workers = [start("worker", *peer.worker) for _ in range(peer.worker_commands)]
        deliver(min(WARM_UP_MESSAGES, form.messages), 1)  # no more than there are customers
        with bench.meter.watch() as readings:
            deliver(form.messages, form.batch_size)
        began_at, ended_at = connection.execute(READ_SPAN).fetchone() or (0, 0)
    return readings.cost(float(began_at), float(ended_at))


def _wait_until_delivered(
    connection: psycopg.Connection, workers: list[ChildProcess], driver: ChildProcess
) -> bool:
    """Wait until all messages are delivered, RUN_SECONDS at most; return False if a process failed.

    Messages are all recorded when the driver has exited.
    """
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        if driver.exit_code or any(worker.exit_code is not None for worker in workers):
            return False
        unfinished = connection.execute(FIND_UNFINISHED, [Status.DELIVERED]).fetchone()
        if driver.exit_code == 0 and unfinished is None:
            return True
        time.sleep(POLL_SECONDS)
    return True


def _count_complete(url: str) -> int:
    parameters = {"statuses": [int(status) for status in STATUSES], "expected": len(STATUSES)}
    with psycopg.connect(url) as connection:
        [complete] = connection.execute(COUNT_COMPLETE, parameters).fetchone() or (0,)
    return int(complete)
