"""`simulate` when it is interrupted or terminated, and twice at the same time."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from functools import partial

import psutil
import pytest

from tests.support.shell import (
    LIMIT_SECONDS,
    FinishedRun,
    Shell,
    StartedCommand,
    is_running,
    make_scenario,
    wait_until,
    without_times,
)

SLOW = make_scenario(name="slow", email=300, sms=100, median="300s", p99="400s")
"""A scenario that runs longer than any test."""


def test_two_signals_stop_a_run_at_once(shell: Shell) -> None:
    # A shell without job control starts jobs in the background with SIGINT ignored.
    background = frozenset({signal.SIGINT})
    cases = ((signal.SIGINT, frozenset[signal.Signals]()), (signal.SIGTERM, background))
    for run, (signal_number, ignored) in enumerate(cases, 1):
        command = shell.start("simulate", shell.write("slow.toml", SLOW), ignored=ignored)
        wait_until(partial(_recorded, shell, run), "the run is recorded")
        wait_until(lambda: shell.count_moved() > 300, "messages move")
        reached = [psutil.Process(command.process.pid)]
        children = reached[0].children(recursive=True)
        assert len(children) >= 4, "Valkey, the worker, and a pool of two"
        assert len(shell.find_processes()) >= 5, "the driver and its children"
        assert list(shell.scratch.glob("sendtrace-*")), "the broker has a folder of its own"
        if signal_number is signal.SIGINT:
            # Ctrl-C reaches all processes in the terminal's foreground, not only the driver.
            group = command.process.pid
            reached += [child for child in children if os.getpgid(child.pid) == group]
        for process in reached:
            process.send_signal(signal_number)
        # The first one requests a shutdown, the second one stops at once.
        wait_until(partial(_has_noticed, command), "the shutdown request is confirmed")
        for process in reached:
            process.send_signal(signal_number)
        assert command.wait() == 130
        error = f"run {run} was interrupted; see sendtrace report --run {run}; sendtrace resume"
        assert command.stderr_text.splitlines()[-1] == f"sendtrace: {error} {run} continues it"
        heading = shell.run("report", "--run", str(run)).stdout.splitlines()[0]
        assert " · interrupted · " in heading
        assert "Traceback" not in command.stderr_text
        assert command.stdout.read_text() == ""
        shell.assert_nothing_is_left()
        wait_until(lambda: not any(map(is_running, children)), "all children have ended")  # noqa: B023
    following = make_scenario(email=300, sms=100, median="10ms", p99="20ms")
    passed = FinishedRun.of(shell, shell.write("following.toml", following), "--no-record")
    assert passed.result["run"] == 3


def _has_noticed(command: StartedCommand) -> bool:
    return "SIGTERM again stops at once" in command.stderr_text


def _recorded(shell: Shell, run: int) -> bool:
    return shell.query_number("SELECT coalesce(max(id), 0) FROM runs") == run


def test_ctrl_c_many_times_leaves_nothing_running(shell: Shell) -> None:
    command = shell.start("simulate", shell.write("slow.toml", SLOW))
    wait_until(lambda: shell.count_moved() > 300, "messages move")
    deadline = time.monotonic() + LIMIT_SECONDS
    while command.process.poll() is None and time.monotonic() < deadline:
        command.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            command.process.wait(0.15)
    assert command.process.poll() not in (None, 0)
    shell.assert_nothing_is_left()


WAIT_IN_IMPORT = """
import sys, time

class Wait:
    def find_spec(self, name, path=None, target=None):
        if name == "pydantic_core":
            open("importing", "x").close()
            time.sleep(600)

sys.meta_path.insert(0, Wait())
"""
"""Makes the command wait while it imports a module."""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_imports_stops_at_once(shell: Shell, signal_number: signal.Signals) -> None:
    shell.write("sitecustomize.py", WAIT_IN_IMPORT)
    settings = {"PYTHONPATH": str(shell.folder)}
    command = shell.start("simulate", shell.write("slow.toml", SLOW), settings=settings)
    wait_until((shell.folder / "importing").exists, "it imports its modules")
    command.process.send_signal(signal_number)
    assert command.wait() == 130
    assert command.stderr_text == "sendtrace: interrupted\n"
    shell.assert_nothing_is_left()


def test_a_closed_terminal_leaves_nothing_running(shell: Shell) -> None:
    command = shell.start("simulate", shell.write("slow.toml", SLOW))
    wait_until(lambda: shell.count_moved() > 300, "messages move")
    command.process.send_signal(signal.SIGHUP)
    assert command.wait() != 0
    shell.assert_nothing_is_left()


def test_two_at_the_same_time(shell: Shell) -> None:
    file = shell.write("small.toml", make_scenario(email=1_000, sms=500))
    simulate = ("simulate", file, "--no-record")
    commands = [shell.start(*simulate, label=f"command{number}") for number in (1, 2)]
    for command in commands:
        assert command.wait() == 0, command.stderr_text
        assert "✔ passed" in command.stdout.read_text()
    shell.assert_nothing_is_left()
    first, second = (without_times(shell.reports("--run", number)) for number in "12")
    assert [report["run"] for report in (*first, *second)] == [1, 1, 2, 2]
    assert [report | {"run": 2} for report in first] == second
