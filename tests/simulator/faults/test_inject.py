"""Faults that are played: each is told with what came of it."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simulator.faults import inject
from simulator.faults.inject import FaultInjector, FaultProxies
from simulator.scenario.faults import InjectedFault
from simulator.setup.record import record_run, start_run
from tests.support.playing import campaign_of, scenario_of
from tracker.settings import load_settings
from tracker.store.database import Database


def play(
    database: Database, folder: Path, worker: int, *told: dict[str, Any]
) -> list[InjectedFault]:
    """Play faults on a worker with a process id until all have happened."""
    scenario = scenario_of(campaign_of(audience=10), faults=list(told))
    run = start_run(database, record_run(database, scenario, folder, lambda _: None))
    stub: Any = SimpleNamespace(process_id=lambda: worker)
    nowhere = FaultProxies(None, [], load_settings(), "", "")
    played = FaultInjector(run, database, stub, stub, nowhere, lambda _: None)
    with played.running():
        deadline = time.monotonic() + 20
        while len(played.happened) < len(told):
            assert time.monotonic() < deadline, played.happened
            time.sleep(0.01)
    return played.happened


@pytest.fixture
def gone() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"kill": "worker"}, "NoSuchProcess"),
        ({"kill": "pool-child"}, "no pool process"),
        ({"kill": "pool-child", "when": "accepted"}, "nothing that was not on record"),
        ({"flush": "broker"}, "AttributeError"),  # there is none
    ],
)
def test_a_fault_that_can_not_happen_says_why(
    database: Database,
    tmp_path: Path,
    gone: int,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any],
    why: str,
) -> None:
    monkeypatch.setattr(inject, "TARGET_TIMEOUT_SECONDS", 0.3)
    [happened] = play(database, tmp_path, gone, {"at": "0s", **fault})
    assert happened.times == 0
    assert happened.trouble is not None
    assert why in happened.trouble


def test_a_pool_process_is_waited_for_and_killed(database: Database, tmp_path: Path) -> None:
    """The worker may be starting again when its time comes."""
    program = (
        "import subprocess, sys, time; time.sleep(0.5);"
        "sys.exit(subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)']).returncode)"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as worker:
        [happened] = play(database, tmp_path, worker.pid, {"at": "0s", "kill": "pool-child"})
        assert worker.wait(20) != 0
    assert (happened.times, happened.trouble) == (1, None)
