"""Fault injection: each fault is reported with what came of it."""

import subprocess
import sys
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from simulator.faults import inject
from simulator.faults.connections import LocalStack
from simulator.faults.inject import FaultInjector
from simulator.scenario.faults import InjectedFault
from simulator.setup.record import record_run, start_run
from tests.support.inline_runs import build_campaign, build_scenario
from tracker.settings import load_settings
from tracker.store.database import Database


def inject_fault(
    database: Database, folder: Path, worker_pid: int, section: dict[str, Any]
) -> InjectedFault:
    """Inject a fault into a run whose worker has this process id, and whose broker is missing."""
    scenario = build_scenario(build_campaign(audience=10), faults=[section])
    stub: Any = SimpleNamespace(pid=worker_pid)
    injector = FaultInjector(
        run=start_run(database, record_run(database, scenario, folder, lambda _: None)),
        database=database,
        worker=stub,
        stack=LocalStack(
            broker=stub,
            database_proxy=None,
            worker_proxies=[],
            driver_settings=load_settings(),
            worker_broker="",
            worker_database="",
        ),
        log=lambda _: None,
    )
    injector.inject_when_due(scenario.faults[0], Event())
    [injected] = injector.injected_faults
    return injected


@pytest.fixture
def dead_pid() -> int:
    """Return the id of a process that has exited."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ({"kill": "worker"}, "NoSuchProcess"),
        ({"kill": "pool-child"}, "no pool process"),
        ({"kill": "pool-child", "when": "accepted"}, "no accepted message that was not recorded"),
        ({"flush": "broker"}, "AttributeError"),
    ],
)
def test_a_fault_without_a_target_reports_why(
    database: Database,
    tmp_path: Path,
    dead_pid: int,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any],
    cause: str,
) -> None:
    monkeypatch.setattr(inject, "TARGET_TIMEOUT_SECONDS", 0.3)
    injected = inject_fault(database, tmp_path, dead_pid, {"at": "0s", **fault})
    assert injected.times == 0
    assert injected.trouble is not None
    assert cause in injected.trouble


def test_a_pool_process_is_waited_for_and_killed(database: Database, tmp_path: Path) -> None:
    """The worker may be restarting when the fault is due."""
    program = (
        "import subprocess, sys, time; time.sleep(0.5);"
        "sys.exit(subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)']).returncode)"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as worker:
        injected = inject_fault(database, tmp_path, worker.pid, {"at": "0s", "kill": "pool-child"})
        assert worker.wait(150) != 0
    assert (injected.times, injected.trouble) == (1, None)
