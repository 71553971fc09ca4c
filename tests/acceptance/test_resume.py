"""`judge` and `resume`: a run whose driver was killed ends as if nothing had happened."""

import json
import signal
import sqlite3
from contextlib import closing

import psutil

from tests.support.shell import FinishedRun, Shell, is_running, make_scenario, wait_until

SLOW = make_scenario(median="1s", p99="2s").replace(
    'requires = ["coupon"]', 'load = { shape = { constant = 75 } }\nrequires = ["coupon"]'
)
"""The scenario of the shared runs, with twenty seconds of arrivals; its outcomes are the same."""


def move_heartbeat(shell: Shell, minutes: int) -> None:
    """Move the last heartbeat, so that a test need not wait or hurry."""
    with closing(sqlite3.connect(shell.database)) as connection, connection:
        connection.execute(
            "UPDATE runs SET heartbeat_at = heartbeat_at + ?", (minutes * 60_000_000,)
        )


def assert_abandoned(shell: Shell) -> None:
    email, sms = shell.reports()
    for report in (email, sms):
        assert report["state"] == "abandoned"
        assert report["balanced"]
        parts = ("sent", "not_sent", "in_progress")
        total = sum(report[part]["total"] for part in parts) + report["scheduled"]
        assert total == report["audience"]
    assert (email["audience"], sms["audience"]) == (1_500, 700)
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


def test_a_killed_run_leaves_no_process_and_is_judged_and_resumed_to_the_same_outcomes(
    shell: Shell, on_sqlite: FinishedRun
) -> None:
    file = shell.write("slow.toml", SLOW)
    command = shell.start("simulate", file, "--batch-size", "500")
    wait_until(lambda: shell.count_moved() > 100, "messages move")
    children = psutil.Process(command.process.pid).children(recursive=True)
    command.process.kill()
    command.wait()
    wait_until(lambda: not any(map(is_running, children)), "its children have ended")
    shell.assert_nothing_is_left()

    move_heartbeat(shell, minutes=10)
    assert shell.reports()[0]["state"] == "running"
    refused = shell.run("resume", "1")
    assert refused.returncode == 2
    assert "run 1 may have a living driver" in refused.stderr
    move_heartbeat(shell, minutes=-20)
    assert_abandoned(shell)
    file.unlink()

    judged = shell.run("judge", "1")
    assert judged.returncode == 1, judged.stderr
    assert "run 1 · seed 11 · abandoned" in judged.stdout
    assert "partial: abandoned: no recorded end, no heartbeat" in judged.stdout
    assert "Not measured: queue depths" in judged.stdout
    sent = json.loads((shell.home / "runs" / "1" / "summary.json").read_text())["messages"]
    assert 100 < sent < 2_200

    moved = shell.count_moved()
    command = shell.start("resume", "1")
    wait_until(lambda: shell.count_moved() > moved + 100, "messages move again")
    command.process.send_signal(signal.SIGTERM)
    assert command.wait() == 130, command.stderr_text

    result_file = shell.folder / "resumed.json"
    ended = shell.run("resume", "1", "--json", result_file)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert "not comparable: the run was resumed" in ended.stdout
    resumed = FinishedRun(shell, ended.stdout, ended.stderr, json.loads(result_file.read_text()))
    assert (resumed.result["resumed"], resumed.result["messages"]) == (2, 2_200)
    assert resumed.outcome_digests == on_sqlite.outcome_digests
