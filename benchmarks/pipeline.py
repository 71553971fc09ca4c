"""One run of the pipeline: `sendtrace simulate` with real workers, as processes of its own."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measures import Json
from benchmarks.memory import Peaks, watch_memory
from simulator.cli.simulate import DEFAULT_BATCH_SIZE

WORKER_COUNT = 2
"""Worker processes."""

SCENARIO = """\
name = "benchmark"
seed = 42
faults = [{faults}]

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


class BenchmarkRunFailed(Exception):
    """A run failed or differs from its prediction, so there is nothing to measure."""


@dataclass(frozen=True, kw_only=True)
class PipelineMeasurement:
    """A finished run.

    Attributes:
        seconds: from the run's first row to its last settled message.
        command_seconds: from the start of the command to its end; includes recording the customers
            and verifying the results.
        peaks: peak memory of its processes, if they were watched.
        faults: the faults that were injected, as the result has them.
    """

    scenario: Path
    messages: int
    batch_size: int
    seconds: float
    command_seconds: float
    peaks: Peaks = field(default_factory=dict)
    faults: Sequence[Mapping[str, Any]] = ()

    @property
    def throughput(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds

    def as_json(self) -> Json:
        """Return the measurement as it stands in bench.json."""
        return {
            "messages": self.messages,
            "batch_size": self.batch_size,
            "seconds": self.seconds,
            "command": self.command_seconds,
            "peaks": self.peaks,
            "faults": self.faults,
        }


def run_pipeline(
    url: str,
    folder: Path,
    messages: int,
    *options: str,
    batch_size: int = DEFAULT_BATCH_SIZE,
    faults: str = "",
    should_watch_memory: bool = False,
) -> PipelineMeasurement:
    """Simulate a campaign into an empty database and return what was measured.

    `options` are further options of `sendtrace simulate`, `faults` the scenario's, in TOML.

    Raises:
        BenchmarkRunFailed: unless every message ended as predicted.
    """
    scenario, result, log = (folder / f"run.{suffix}" for suffix in ("toml", "json", "log"))
    scenario.write_text(SCENARIO.format(messages=messages, faults=faults))
    arguments = ["simulate", str(scenario), "--database", url, "--json", str(result)]
    arguments += ["--workers", str(WORKER_COUNT), "--batch-size", str(batch_size)]
    started_at = time.monotonic()
    with (
        log.open("wb") as output,
        start_command(folder, *arguments, *options, stdout=output, stderr=output) as process,
        watch_memory(process.pid) if should_watch_memory else nullcontext(Peaks()) as peaks,
    ):
        code = process.wait()
    command_seconds = time.monotonic() - started_at
    if code:
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        raise BenchmarkRunFailed("\n".join([f"run failed: exit code {code}", *lines]))
    summary = json.loads(result.read_text())
    return PipelineMeasurement(
        scenario=scenario,
        messages=messages,
        batch_size=batch_size,
        seconds=float(summary["seconds"]),
        command_seconds=command_seconds,
        peaks=peaks,
        faults=summary["faults"],
    )


@contextmanager
def serve_live_page(url: str, folder: Path) -> Iterator[str]:
    """Serve the live page of a database in a process of its own, and yield its address."""
    arguments = ("serve", "--port", "0", "--database", url)
    with start_command(folder, *arguments, stdout=subprocess.PIPE) as process:
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
