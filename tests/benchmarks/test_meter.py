"""CPU time by process, and other load on the machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.context import QUICK_SIZES, DatabaseBenchmark
from benchmarks.meter import Cost, Meter, order_turn
from tests.support.paths import ROOT

BURNED_SECONDS = 0.4

TREE = f"""
import subprocess, sys, time
child = {{"simulate": "celery", "celery": "celery-pool"}}.get(sys.argv[1])
if child is not None:
    subprocess.run([sys.executable, __file__, child], check=True)
while time.process_time() < {BURNED_SECONDS}:
    pass
"""
"""Each process waits for its child, and then burns CPU. Its argument gives its role."""


def burn(seconds: float) -> None:
    """Use one core."""
    ends_at = time.process_time() + seconds
    while time.process_time() < ends_at:
        pass


@pytest.fixture
def stranger() -> Iterator[int]:
    """Return the id of a process that has no children."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


def test_cpu_of_processes_that_end_is_counted_once_in_their_role(tmp_path: Path) -> None:
    script = tmp_path / "tree.py"
    script.write_text(TREE)
    began_at = time.time()
    with Meter(root=os.getpid()).watch() as readings:
        command = [sys.executable, str(script), "simulate"]
        subprocess.run(command, cwd=ROOT, check=True)
        ended_at = time.time()
    cost = readings.cost(began_at, ended_at)
    # Other tests in this process may have left a broker or a database running.
    roles = {"driver", "worker", "pool"}
    assert roles <= cost.cpu.keys()
    assert sum(cost.cpu[role] for role in roles) == pytest.approx(3 * BURNED_SECONDS, rel=0.2)
    # What a process used after its last reading counts for its parent.
    assert cost.cpu["driver"] == pytest.approx(BURNED_SECONDS, abs=0.25)
    assert readings.peaks["pool"] > 1e6


def test_block_in_this_process_counts_as_the_driver() -> None:
    costs: list[Cost] = []
    with Meter(root=os.getpid()).measure(costs):
        burn(0.2)
    [cost] = costs
    assert cost.cpu == {"driver": pytest.approx(0.2, rel=0.2), "database": 0.0}
    assert cost.seconds >= 0.2


def test_load_of_others_is_measured_and_warned_of(
    stranger: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own: list[Cost] = []
    bench = DatabaseBenchmark(
        database="sqlite",
        settings={},
        sizes=QUICK_SIZES,
        folder=tmp_path,
        create_database=lambda: pytest.fail("needs no database"),
        meter=Meter(root=stranger),
    )
    costs: list[Cost] = []
    with Meter(root=os.getpid()).measure(own), bench.measure("burning", costs):
        burn(0.6)
    # The same CPU time is other load only for the meter to which this process doesn't belong.
    burned_cores = 0.6 / costs[0].seconds
    assert costs[0].other_cores - own[0].other_cores == pytest.approx(burned_cores, rel=0.3)
    [warning] = bench.warnings
    assert warning.startswith("burning: other processes used ")
    assert f"sqlite: warning: {warning}" in capsys.readouterr().err


def test_every_second_turn_is_reversed() -> None:
    assert [order_turn("AB", turn) for turn in range(4)] == [["A", "B"], ["B", "A"]] * 2
