"""`judge` and `resume`: a run whose driver was killed ends as if nothing had happened."""

import json
import sqlite3
from contextlib import closing

import pytest

from tests.support.shell import FinishedRun, Shell, make_scenario, wait_until

SLOW = make_scenario(median="1s", p99="2s").replace(
    'requires = ["coupon"]', 'load = { shape = { constant = 75 } }\nrequires = ["coupon"]'
)
"""The scenario of the shared runs, with twenty seconds of arrivals; its outcomes are the same."""


def silence_driver(shell: Shell) -> None:
    """Set the last heartbeat back by a minute, which nobody has to wait for then."""
    with closing(sqlite3.connect(shell.database)) as connection, connection:
        connection.execute("UPDATE runs SET heartbeat_at = heartbeat_at - 60000000")


@pytest.mark.timeout(300)  # two runs
def test_a_killed_run_is_judged_and_resumed_to_the_same_outcomes(
    shell: Shell, on_sqlite: FinishedRun
) -> None:
    file = shell.write("slow.toml", SLOW)
    command = shell.start("simulate", file, "--batch-size", "500")
    wait_until(lambda: shell.count_moved() > 300, "messages move")
    refused = shell.run("resume", "1")
    assert refused.returncode == 2
    assert "run 1 is running: its driver was alive within the last 30 s" in refused.stderr
    command.process.kill()
    command.wait()
    wait_until(lambda: not shell.find_processes(), "worker and broker have ended")
    silence_driver(shell)
    file.unlink()

    judged = shell.run("judge", "1")
    assert judged.returncode == 1, judged.stderr
    assert "run 1 · seed 11 · abandoned" in judged.stdout
    assert "partial: abandoned: its driver ended before the run did" in judged.stdout
    assert "Not measured: queue depths" in judged.stdout
    sent = json.loads((shell.home / "runs" / "1" / "summary.json").read_text())["messages"]
    assert 300 < sent < 2_200

    result_file = shell.folder / "resumed.json"
    ended = shell.run("resume", "1", "--json", result_file)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert "! The run was resumed once" in ended.stdout
    resumed = FinishedRun(shell, ended.stdout, ended.stderr, json.loads(result_file.read_text()))
    assert (resumed.result["resumed"], resumed.result["messages"]) == (1, 2_200)
    assert resumed.outcome_digests == on_sqlite.outcome_digests
