"""A driver that is killed: its campaigns are abandoned, with every customer accounted for."""

import json
import signal
import time

import pytest

from simulator.setup.heartbeat import HEARTBEAT_INTERVAL_SECONDS
from tests.support.shell import Shell, make_scenario, wait_until
from tracker.clock import to_seconds
from tracker.queries.campaign_state import ABANDONED_AFTER

SLOW = make_scenario(name="slow", email=2_000, sms=1_000, median="20ms", p99="40ms").replace(
    'requires = ["coupon"]', 'load = { shape = { constant = 100 } }\nrequires = ["coupon"]'
)
"""Twenty seconds of arrivals."""


@pytest.fixture
def abandoned(shell: Shell) -> Shell:
    """Return the shell of a run whose driver was killed when it had sent a part."""
    command = shell.start("simulate", shell.write("slow.toml", SLOW))
    wait_until(lambda: shell.count_moved() > 50, "messages move")
    [running] = [
        report for report in shell.reports("--run", "1") if report["campaign"] == "spring-email"
    ]
    assert (running["state"], running["audience"]) == ("running", 2_000)
    assert running["scheduled"] > 0
    command.process.send_signal(signal.SIGKILL)
    command.process.wait()
    killed_at = time.time()
    heartbeat_at = to_seconds(shell.query_number("SELECT heartbeat_at FROM runs"))
    assert killed_at - 2 * HEARTBEAT_INTERVAL_SECONDS < heartbeat_at < killed_at
    assert shell.reports()[0]["state"] == "running", "nobody can know yet"
    silence = ABANDONED_AFTER.total_seconds()
    wait_until(lambda: time.time() > heartbeat_at + silence, "30 s of silence")
    return shell


def test_run_of_a_killed_driver_is_abandoned_with_the_rest_scheduled(abandoned: Shell) -> None:
    email, sms = abandoned.reports()
    for report in (email, sms):
        assert report["state"] == "abandoned"
        assert report["balanced"]
        parts = ("sent", "not_sent", "in_progress")
        total = sum(report[part]["total"] for part in parts) + report["scheduled"]
        assert total == report["audience"]
    assert (email["audience"], sms["audience"]) == (2_000, 1_000)
    assert email["scheduled"] > 0
    text = abandoned.run("report", "spring-email").stdout
    assert " · run 1 · seed 11 · abandoned · " in text
    assert any(
        line.split()[:2] == ["Scheduled", f"{email['scheduled']:,}"] for line in text.splitlines()
    )
    verified = abandoned.run("verify")
    assert verified.returncode == 1, verified.stdout
    assert "✘" not in verified.stdout
    assert "not known: run 1 is abandoned" in verified.stdout
    [run] = json.loads(abandoned.run("runs", "--format", "json").stdout)
    assert (run["state"], run["result"]) == ("abandoned", "no result")
