"""``simulate`` while processes are killed, and while it is told to stop."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support.shell import FinishedRun, Shell, StartedCommand, make_scenario, wait_until

SLOW = make_scenario(name="slow", email=300, sms=100, median="30s", p99="40s")
"""Ends long after any test."""

AT_ONCE = 30.0
"""Seconds within which a command that is told to stop has stopped. A worker is given ten."""


def test_told_to_stop(shell: Shell) -> None:
    for run, ending in enumerate((signal.SIGINT, signal.SIGTERM), 1):
        command = shell.start("simulate", shell.write("slow.toml", SLOW))
        wait_until(partial(_recorded, shell, run), "the run is recorded")
        wait_until(lambda: shell.count_moved() > 300, "messages move")
        reached = [psutil.Process(command.process.pid)]
        children = reached[0].children(recursive=True)
        assert len(children) >= 4, "Valkey, the worker, and a pool of two"
        if ending is signal.SIGINT:
            # Ctrl-C reaches all that is in the terminal's foreground, not the driver alone.
            reached += [each for each in children if os.getpgid(each.pid) == command.process.pid]
        began = time.monotonic()
        for each in reached:
            each.send_signal(ending)
        if ending is signal.SIGINT:
            # Once asks for what is under way to be finished; twice is at once.
            wait_until(partial(_was_heard, command), "it was heard")
            for each in reached:
                each.send_signal(ending)
        assert command.wait() == 130
        assert time.monotonic() - began < AT_ONCE
        said = f"run {run} was interrupted; see sendtrace report --run {run}"
        assert command.stderr_text.splitlines()[-1] == f"sendtrace: {said}"
        heading = shell.run("report", "--run", str(run)).stdout.splitlines()[0]
        assert heading.endswith(" · not finished")
        assert "Traceback" not in command.stderr_text
        assert command.stdout.read_text() == ""
        assert not [each for each in children if _runs(each)]
        _assert_nothing_is_left(shell)
    following = make_scenario(email=300, sms=100, median="10ms", p99="20ms")
    passed = FinishedRun.of(shell, shell.write("following.toml", following))
    assert passed.result["run"] == 3


def _was_heard(command: StartedCommand) -> bool:
    return "Ctrl-C again stops at once" in command.stderr_text


def _recorded(shell: Shell, run: int) -> bool:
    return shell.query_number("SELECT coalesce(max(id), 0) FROM runs") == run


def _assert_nothing_is_left(shell: Shell) -> None:
    assert shell.find_processes() == []
    assert list(shell.scratch.glob("sendtrace-*")) == []


def test_told_to_stop_again_and_again(shell: Shell) -> None:
    command = shell.start("simulate", shell.write("slow.toml", SLOW))
    wait_until(lambda: shell.count_moved() > 300, "messages move")
    deadline = time.monotonic() + AT_ONCE
    while command.process.poll() is None and time.monotonic() < deadline:
        command.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            command.process.wait(0.15)
    assert command.process.poll() not in (None, 0)
    _assert_nothing_is_left(shell)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_it_loads(shell: Shell, ending: signal.Signals) -> None:
    command = shell.start("simulate", shell.write("slow.toml", SLOW))
    mapped = Path(f"/proc/{command.process.pid}/maps")
    wait_until(lambda: "pydantic_core" in mapped.read_text(), "it loads its modules")
    command.process.send_signal(ending)
    assert command.wait() == 130
    assert command.stderr_text == "sendtrace: interrupted\n"
    assert shell.find_processes() == []


def test_a_terminated_job_in_the_background_stops(shell: Shell) -> None:
    # A shell without job control starts jobs in the background with SIGINT ignored.
    ignored = frozenset({signal.SIGINT})
    command = shell.start("simulate", shell.write("slow.toml", SLOW), ignored=ignored)
    wait_until(lambda: shell.count_moved() > 300, "messages move")
    command.process.send_signal(signal.SIGTERM)
    assert command.wait(AT_ONCE) not in (0, 1)
    assert shell.find_processes() == []


def test_a_closed_terminal_leaves_nothing_running(shell: Shell) -> None:
    command = shell.start("simulate", shell.write("slow.toml", SLOW))
    wait_until(lambda: shell.count_moved() > 300, "messages move")
    command.process.send_signal(signal.SIGHUP)
    assert command.wait(AT_ONCE) != 0
    wait_until(lambda: not shell.find_processes(), "the worker and the broker have ended", AT_ONCE)


def test_a_driver_that_is_killed_takes_its_children_with_it(shell: Shell) -> None:
    command = shell.start("simulate", shell.write("slow.toml", SLOW))
    wait_until(lambda: shell.count_moved() > 300, "messages move")
    children = psutil.Process(command.process.pid).children(recursive=True)
    command.process.kill()
    command.wait()
    wait_until(lambda: not any(map(_runs, children)), "its children have ended", AT_ONCE)
    wait_until(lambda: not list(shell.scratch.glob("sendtrace-*")), "the broker's folder is gone")
    assert shell.find_processes() == []


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_two_at_the_same_time(shell: Shell) -> None:
    file = shell.write("small.toml", make_scenario(email=1_000, sms=500))
    commands = [shell.start("simulate", file, label=f"command{number}") for number in (1, 2)]
    for command in commands:
        assert command.wait() == 0, command.stderr_text
        assert "✔ passed" in command.stdout.read_text()
    assert shell.find_processes() == []
    first, second = (shell.reports("--run", number) for number in "12")
    assert first == second
