"""The pipeline, measured: the shipped command with real workers, in processes of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks import memory
from tracker.clock import to_seconds
from tracker.store.database import connect
from tracker.store.schema.catalog import runs
from tracker.store.schema.work import recoveries

SCENARIO = """\
name = "benchmark"
seed = 42
faults = [{faults}]

[[campaigns]]
name = "benchmark-email"
channel = "email"
audience = {messages}
"""
"""Nothing wrong with anybody, and a gateway that answers at once. All checks run."""

STOP_TIMEOUT = 30
"""Seconds that an interrupted run has to end its workers and its broker."""

LOG_TAIL_LINES = 15
"""Last lines to show of a run that failed."""


class BenchmarkRunFailed(Exception):
    """A run broke, or did not end as predicted: there is nothing to measure."""


@dataclass(frozen=True, kw_only=True)
class PipelineMeasurement:
    """A finished run of a ``scenario``. ``seconds`` are from its first row to its last message
    settled; ``command`` also has the customers made before, and all that is checked and kept after:
    what who started it waits."""

    scenario: Path
    messages: int
    batch_size: int
    seconds: float
    command: float
    peaks: memory.Peaks
    faults: Sequence[Mapping[str, Any]] = ()
    """What happened in it, as its result has them."""

    @property
    def throughput(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


def run(
    url: str,
    folder: Path,
    *,
    messages: int,
    batch_size: int,
    workers: int,
    watched: bool = False,
    should_record: bool = True,
    should_sweep: bool = True,
    faults: str = "",
) -> PipelineMeasurement:
    """Simulate ``messages`` into the database at ``url``; ``watched``: look at its memory too.
    ``faults`` are those of the scenario, as its file has them.

    Raises :exc:`BenchmarkRunFailed` unless every message ended as predicted.
    """
    scenario, result, log = (folder / f"run.{ending}" for ending in ("toml", "json", "log"))
    scenario.write_text(SCENARIO.format(messages=messages, faults=faults))
    command = [
        *(sys.executable, "-m", "simulator", "simulate", str(scenario)),
        *("--workers", str(workers), "--batch-size", str(batch_size)),
        *("--database", url, "--json", str(result)),
        "--record" if should_record else "--no-record",
        "--sweep" if should_sweep else "--no-sweep",
    ]
    environment = {key: value for key, value in os.environ.items() if "SENDTRACE_" not in key}
    environment["SENDTRACE_HOME"] = str(folder / "home")
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            with (
                memory.watch_memory(process.pid)
                if watched
                else nullcontext(memory.Peaks()) as peaks
            ):
                code = process.wait()
        finally:
            _stop_process(process)
    command_seconds = time.monotonic() - began
    if code:
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        raise BenchmarkRunFailed("\n".join([f"the run ended with exit code {code}", *lines]))
    told = json.loads(result.read_text())
    return PipelineMeasurement(
        scenario=scenario,
        messages=messages,
        batch_size=batch_size,
        seconds=float(told["seconds"]),
        command=command_seconds,
        peaks=peaks,
        faults=told["faults"],
    )


def went_on_after(url: str, disturbed: PipelineMeasurement) -> float | None:
    """Seconds from the first fault of a run until a sweep sent on what it had stopped; None where
    nothing had to be."""
    with closing(connect(url)) as database, database.read() as connection:
        sent_at = connection.scalar(sa.select(sa.func.min(recoveries.c.sent_at)))
        started_at = connection.scalar(sa.select(sa.func.max(runs.c.started_at)))
    if sent_at is None or started_at is None or not disturbed.faults:
        return None
    return float(to_seconds(sent_at - started_at) - disturbed.faults[0]["at"])


def _stop_process(process: subprocess.Popen[bytes]) -> None:
    """End a run that was not waited for: it stops its own processes when it is asked to."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
