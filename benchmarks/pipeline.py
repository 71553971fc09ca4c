"""One run of the pipeline: `sendtrace simulate` with real workers, as processes of its own."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.command import BenchmarkRunFailed
from benchmarks.context import DatabaseBenchmark
from benchmarks.databases import open_tables, read_transaction_counts
from benchmarks.meter import Cost
from tracker.clock import to_seconds
from tracker.store.schema.work import steps

WORKER_COUNT = 2
"""Worker processes."""

SCENARIO = """\
name = "benchmark"
seed = 42
{keys}

[[campaigns]]
name = "benchmark-email"
channel = "email"
audience = {messages}
"""
"""No planted defects, a gateway without latency. All checks run."""

STOP_TIMEOUT_SECONDS = 30
"""How long an interrupted command may take to stop its processes."""

LOG_TAIL_LINES = 15
"""Last lines of the log of a failed run that are shown."""


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    """A finished run.

    Attributes:
        cost: from the run's first step to its last; commits and dead tuples of the whole command.
        command_seconds: from the start of the command to its end; includes recording the customers
            and verifying the results.
        peaks: peak memory of its processes in bytes, by role.
        faults: the faults that were injected, as the result has them.
    """

    messages: int
    cost: Cost
    command_seconds: float
    peaks: Mapping[str, int]
    faults: Sequence[Mapping[str, Any]]


def run_pipeline(
    bench: DatabaseBenchmark,
    url: str,
    name: str,
    *options: str,
    messages: int | None = None,
    keys: str = "",
) -> PipelineRun:
    """Simulate a campaign into an empty database and return what was measured.

    Args:
        name: what warnings call the run.
        options: further options of `sendtrace simulate`.
        messages: by default, those of a run in a round.
        keys: further keys of the scenario, as TOML.

    Raises:
        BenchmarkRunFailed: unless every message ended as predicted.
    """
    messages = messages or bench.sizes.pipeline
    scenario, result, log = (bench.folder / f"run.{suffix}" for suffix in ("toml", "json", "log"))
    scenario.write_text(SCENARIO.format(messages=messages, keys=keys))
    arguments = ["simulate", str(scenario), "--database", url, "--json", str(result)]
    arguments += ["--workers", str(WORKER_COUNT)]
    started_at = time.monotonic()
    with (
        log.open("wb") as output,
        start_command(bench.folder, *arguments, *options, stdout=output, stderr=output) as process,
        bench.meter.watch() as readings,
    ):
        code = process.wait()
    command_seconds = time.monotonic() - started_at
    if code:
        raise make_run_error(f"run failed: exit code {code}", log)
    commits, dead_tuples = read_transaction_counts(url)
    cost = readings.cost(*_read_span(url))
    bench.check_load(name, cost)
    return PipelineRun(
        messages=messages,
        cost=replace(cost, commits=commits, dead_tuples=dead_tuples),
        command_seconds=command_seconds,
        peaks=readings.peaks,
        faults=json.loads(result.read_text())["faults"],
    )


def make_run_error(summary: str, log: Path) -> BenchmarkRunFailed:
    """Return the error of a run, with the last lines of its log."""
    lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return BenchmarkRunFailed("\n".join([summary, *lines]))


def _read_span(url: str) -> tuple[float, float]:
    """Return the Unix times of the first step's start and of the last step's end."""
    query = sa.select(sa.func.min(steps.c.started_at), sa.func.max(steps.c.finished_at))
    with open_tables(url) as database, database.read() as connection:
        began_at, ended_at = connection.execute(query).one()
    return float(to_seconds(began_at)), float(to_seconds(ended_at))


@contextmanager
def serve_live_page(url: str, folder: Path) -> Iterator[str]:
    """Serve the live page of a database in a process of its own, and yield its address."""
    arguments = ("serve", "--port", "0", "--database", url)
    with (
        (folder / "serve.log").open("wb") as output,
        start_command(folder, *arguments, stdout=subprocess.PIPE, stderr=output) as process,
    ):
        assert process.stdout is not None
        address = re.search(rb"http://\S+", process.stdout.readline())
        if address is None:
            raise BenchmarkRunFailed("the live page did not start")
        yield address[0].decode()


@contextmanager
def start_command(
    folder: Path, *arguments: str, **streams: Any
) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a sendtrace command with a state folder below `folder`; stop it after the block."""
    environment = {name: value for name, value in os.environ.items() if "SENDTRACE_" not in name}
    environment["SENDTRACE_HOME"] = str(folder / "home")
    command = [sys.executable, "-m", "simulator", *arguments]
    with subprocess.Popen(command, env=environment, **streams) as process:
        try:
            yield process
        finally:
            process.terminate()  # does nothing where the process has ended
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
