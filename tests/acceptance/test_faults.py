"""`simulate` when it is interrupted, terminated or killed, and twice at the same time."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from simulator.setup.heartbeat import HEARTBEAT_INTERVAL_SECONDS
from tests.support.shell import (
    FinishedRun,
    Shell,
    StartedCommand,
    make_scenario,
    wait_until,
    without_times,
)
from tracker.clock import to_seconds
from tracker.queries.campaign_state import ABANDONED_AFTER

SLOW = make_scenario(name="slow", email=300, sms=100, median="30s", p99="40s")
"""A scenario that runs longer than any test."""

STOP_LIMIT_SECONDS = 30.0
"""Seconds that a command may take to stop; its worker has ten of them."""


def test_two_signals_stop_a_run_at_once(shell: Shell) -> None:
    for run, signal_number in enumerate((signal.SIGINT, signal.SIGTERM), 1):
        command = shell.start("simulate", shell.write("slow.toml", SLOW))
        wait_until(partial(_recorded, shell, run), "the run is recorded")
        wait_until(lambda: shell.count_moved() > 300, "messages move")
        reached = [psutil.Process(command.process.pid)]
        children = reached[0].children(recursive=True)
        assert len(children) >= 4, "Valkey, the worker, and a pool of two"
        if signal_number is signal.SIGINT:
            # Ctrl-C reaches all processes in the terminal's foreground, not only the driver.
            group = command.process.pid
            reached += [child for child in children if os.getpgid(child.pid) == group]
        began = time.monotonic()
        for process in reached:
            process.send_signal(signal_number)
        # The first one requests a shutdown, the second one stops at once.
        wait_until(partial(_has_noticed, command), "the shutdown request is confirmed")
        for process in reached:
            process.send_signal(signal_number)
        assert command.wait() == 130
        assert time.monotonic() - began < STOP_LIMIT_SECONDS
        error = f"run {run} was interrupted; see sendtrace report --run {run}; sendtrace resume"
        assert command.stderr_text.splitlines()[-1] == f"sendtrace: {error} {run} continues it"
        heading = shell.run("report", "--run", str(run)).stdout.splitlines()[0]
        assert " · interrupted · " in heading
        assert "Traceback" not in command.stderr_text
        assert command.stdout.read_text() == ""
        assert not [child for child in children if _is_running(child)]
        _assert_nothing_is_left(shell)
    following = make_scenario(email=300, sms=100, median="10ms", p99="20ms")
    passed = FinishedRun.of(shell, shell.write("following.toml", following), "--no-record")
    assert passed.result["run"] == 3


def _has_noticed(command: StartedCommand) -> bool:
    return "SIGTERM again stops at once" in command.stderr_text


def _recorded(shell: Shell, run: int) -> bool:
    return shell.query_number("SELECT coalesce(max(id), 0) FROM runs") == run


def _assert_nothing_is_left(shell: Shell) -> None:
    assert shell.find_processes() == []
    assert list(shell.scratch.glob("sendtrace-*")) == []


def test_ctrl_c_many_times_leaves_nothing_running(shell: Shell) -> None:
    command = shell.start("simulate", shell.write("slow.toml", SLOW))
    wait_until(lambda: shell.count_moved() > 300, "messages move")
    deadline = time.monotonic() + STOP_LIMIT_SECONDS
    while command.process.poll() is None and time.monotonic() < deadline:
        command.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            command.process.wait(0.15)
    assert command.process.poll() not in (None, 0)
    _assert_nothing_is_left(shell)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_imports_stops_at_once(shell: Shell, signal_number: signal.Signals) -> None:
    command = shell.start("simulate", shell.write("slow.toml", SLOW))
    mapped = Path(f"/proc/{command.process.pid}/maps")
    wait_until(lambda: "pydantic_core" in mapped.read_text(), "it imports its modules")
    command.process.send_signal(signal_number)
    assert command.wait() == 130
    assert command.stderr_text == "sendtrace: interrupted\n"
    assert shell.find_processes() == []


def test_sigterm_stops_a_job_in_the_background(shell: Shell) -> None:
    # A shell without job control starts jobs in the background with SIGINT ignored.
    ignored = frozenset({signal.SIGINT})
    command = shell.start("simulate", shell.write("slow.toml", SLOW), ignored=ignored)
    wait_until(lambda: shell.count_moved() > 300, "messages move")
    command.process.send_signal(signal.SIGTERM)
    wait_until(partial(_has_noticed, command), "the shutdown request is confirmed")
    command.process.send_signal(signal.SIGTERM)
    assert command.wait(STOP_LIMIT_SECONDS) not in (0, 1)
    assert shell.find_processes() == []


def test_a_closed_terminal_leaves_nothing_running(shell: Shell) -> None:
    command = shell.start("simulate", shell.write("slow.toml", SLOW))
    wait_until(lambda: shell.count_moved() > 300, "messages move")
    command.process.send_signal(signal.SIGHUP)
    assert command.wait(STOP_LIMIT_SECONDS) != 0
    wait_until(
        lambda: not shell.find_processes(),
        "the worker and the broker have ended",
        STOP_LIMIT_SECONDS,
    )


TRICKLE = make_scenario(name="trickle", email=2_000, sms=1_000, median="20ms").replace(
    'requires = ["coupon"]', 'load = { shape = { constant = 100 } }\nrequires = ["coupon"]'
)
"""Twenty seconds of arrivals."""


def test_killed_driver_leaves_no_process_and_an_abandoned_run(shell: Shell) -> None:
    command = shell.start("simulate", shell.write("trickle.toml", TRICKLE))
    wait_until(lambda: shell.count_moved() > 50, "messages move")
    running = shell.reports("spring-email")[0]
    assert (running["state"], running["audience"]) == ("running", 2_000)
    assert running["scheduled"] > 0
    children = psutil.Process(command.process.pid).children(recursive=True)
    command.process.kill()
    command.wait()
    heartbeat_at = to_seconds(shell.query_number("SELECT heartbeat_at FROM runs"))
    assert heartbeat_at > time.time() - 2 * HEARTBEAT_INTERVAL_SECONDS
    assert shell.reports()[0]["state"] == "running", "nobody can know yet"
    wait_until(
        lambda: not any(map(_is_running, children)), "its children have ended", STOP_LIMIT_SECONDS
    )
    wait_until(lambda: not list(shell.scratch.glob("sendtrace-*")), "the broker's folder is gone")
    assert shell.find_processes() == []
    silence = ABANDONED_AFTER.total_seconds()
    wait_until(lambda: time.time() > heartbeat_at + silence, "30 s of silence")
    _assert_abandoned(shell)


def _assert_abandoned(shell: Shell) -> None:
    email, sms = shell.reports()
    for report in (email, sms):
        assert report["state"] == "abandoned"
        assert report["balanced"]
        parts = ("sent", "not_sent", "in_progress")
        total = sum(report[part]["total"] for part in parts) + report["scheduled"]
        assert total == report["audience"]
    assert (email["audience"], sms["audience"]) == (2_000, 1_000)
    assert email["scheduled"] > 0
    text = shell.run("report", "spring-email").stdout
    assert " · run 1 · seed 11 · abandoned · " in text
    assert any(
        line.split()[:2] == ["Scheduled", f"{email['scheduled']:,}"] for line in text.splitlines()
    )
    verified = shell.run("verify")
    assert verified.returncode == 1, verified.stdout
    assert "✘" not in verified.stdout
    assert "not known: run 1 is abandoned" in verified.stdout
    [run] = json.loads(shell.run("runs", "--format", "json").stdout)
    assert (run["state"], run["result"]) == ("abandoned", "no result")


def _is_running(process: psutil.Process) -> bool:
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
    first, second = (without_times(shell.reports("--run", number)) for number in "12")
    assert [report["run"] for report in (*first, *second)] == [1, 1, 2, 2]
    assert [report | {"run": 2} for report in first] == second
