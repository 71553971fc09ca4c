"""Checks in real runs: every reason is reached, and a check of another package takes part."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import EXAMPLE_RULES, SCENARIOS
from tests.support.plugins import write_distribution
from tests.support.shell import LIMIT_SECONDS, MODULE, Shell, make_scenario, wait_until
from tracker.status import Reason, Status
from workers.plugins import PluginGroup

CHECK_MODULE = '''
from datetime import datetime

from tracker.status import Reason, Step
from workers.candidates import Candidate
from workers.checks.base import check


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
def even_numbers(candidate: Candidate, now: datetime) -> bool:
    """Block messages with even numbers."""
    return candidate.number % 2 == 0
'''


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """Return a folder with the small package, as pip would install it."""
    folder = tmp_path / "installed"
    folder.mkdir()
    entries = {"even_numbers": "acme_rules:even_numbers"}
    write_distribution(folder, "acme_rules", CHECK_MODULE, PluginGroup.CHECKS, entries)
    return folder


@pytest.fixture
def example_rules(tmp_path: Path) -> Path:
    """Install a copy of the example rules with pip, in a folder of its own."""
    source, target = shutil.copytree(EXAMPLE_RULES, tmp_path / "rules"), tmp_path / "installed"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--target", str(target))
    subprocess.run([*pip, *options, str(source)], check=True, timeout=LIMIT_SECONDS)
    return target


def reasons_of(result: Any) -> Counter[str]:
    """Return the messages Not Sent for each reason, of all campaigns of a result."""
    counts: Counter[str] = Counter()
    for campaign in result["campaigns"]:
        for category in campaign["not_sent"].values():
            if isinstance(category, dict):
                counts.update({slug: n for slug, n in category.items() if slug != "total"})
    return counts


AUDIENCE_DIVISOR = 10


def write_smaller(shell: Shell, name: str) -> Path:
    """Write a scenario from scenarios/ with a tenth of its customers, and of its credit."""
    text, count = re.subn(
        r"^(audience|credit) = ([\d_]+)$",
        lambda match: f"{match[1]} = {int(match[2]) // AUDIENCE_DIVISOR}",
        (SCENARIOS / name).read_text(),
        flags=re.MULTILINE,
    )
    assert count
    return shell.write(name, text)


def test_every_reason_is_reached_as_often_as_predicted(shell: Shell) -> None:
    result = shell.folder / "result.json"
    scenario = write_smaller(shell, "all-reasons.toml")
    shutil.copy(SCENARIOS / "duplicates.csv", shell.folder)
    ran = shell.run("simulate", scenario, "--json", result, "--no-record")
    assert ran.returncode == 0, ran.stderr
    assert "✔ passed" in ran.stdout
    reached = reasons_of(json.loads(result.read_text()))
    assert set(+reached) == {reason.slug for reason in Reason if reason.step is not None}
    coverage = shell.run("checks", "coverage", scenario, "--format", "json")
    predicted = {row["reason"]: row["all-reasons"] for row in json.loads(coverage.stdout)}
    assert dict(reached) == predicted


def test_the_shipped_scenarios_reach_every_reason(shell: Shell) -> None:
    coverage = shell.run("checks", "coverage", *sorted(SCENARIOS.glob("*.toml")))
    assert coverage.returncode == 0, coverage.stderr
    assert coverage.stdout.rstrip().endswith("23 of 27 reasons are reached")


def test_the_outcome_of_a_campaign_changes_the_next_one(shell: Shell) -> None:
    result = shell.folder / "result.json"
    scenario = write_smaller(shell, "follow-up.toml")
    ran = shell.run("simulate", scenario, "--json", result, "--no-record")
    assert ran.returncode == 0, ran.stderr
    first, second, by_sms = json.loads(result.read_text())["campaigns"]
    suppressed = second["not_sent"]["internally_suppressed"]
    sent = first["sent"]
    assert suppressed["bounced_repeatedly"] == sent["bounced"]["total"] > 0
    opted_out = suppressed["unsubscribed"] - first["not_sent"]["total"]
    assert (
        max(sent["spam"], sent["unsubscribed"]) < opted_out <= sent["spam"] + sent["unsubscribed"]
    )
    assert by_sms["sent"]["total"] == sent["total"]


def test_a_check_of_an_installed_package_takes_part_in_a_run(shell: Shell, acme: Path) -> None:
    scenario = shell.write("small.toml", make_scenario(email=400, sms=200))
    result = shell.folder / "result.json"
    settings = {"PYTHONPATH": str(acme)}
    command = ("simulate", scenario, "--json", result, "--no-record")
    ran = shell.run(*command, program=MODULE, settings=settings)
    assert ran.returncode == 0, ran.stderr
    assert reasons_of(json.loads(result.read_text()))["configuration"] == 300
    listed = shell.run("checks", "list", "--format", "csv", program=MODULE, settings=settings)
    assert "even_numbers" in listed.stdout.splitlines()[1]


DISABLE_CHECK = """
from workers.checks import suppression

def unsubscribed(candidate: Candidate, now: datetime) -> bool:
    return False

object.__setattr__(suppression.unsubscribed, "rule", unsubscribed)
"""


def test_a_run_with_a_rule_is_proven_except_for_what_the_rule_blocked(
    shell: Shell, example_rules: Path
) -> None:
    result = shell.folder / "result.json"
    settings = {"PYTHONPATH": str(example_rules)}
    command = ("simulate", SCENARIOS / "rules.toml", "--json", result, "--no-record")
    ran = shell.run(*command, settings=settings)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "✔ expectation     hold_out.blocked              946   930..960" in ran.stdout
    assert "every other message matches its prediction" in ran.stdout
    prediction = json.loads(result.read_text())["prediction"]
    assert prediction["not_predicted"] == {"hold_out": 946}
    checked = [
        (campaign["as_predicted"], campaign["not_predicted"], campaign["uncertain"])
        for campaign in prediction["campaigns"]
    ]
    assert checked == [(4_527, {"hold_out": 473}, 0)] * 2

    with (example_rules / "example_rules.py").open("a") as module:
        module.write(DISABLE_CHECK)
    smaller = write_smaller(shell, "rules.toml")
    ran = shell.run("simulate", smaller, "--no-record", settings=settings)
    assert ran.returncode == 3, ran.stdout + ran.stderr
    assert "expected not_sent: unsubscribed, got delivered on attempt 1" in ran.stdout


DEFER_UNTIL_MORNING = '''
from datetime import datetime, timedelta
from pathlib import Path

from workers.candidates import Candidate
from workers.checks.base import Defer, check


@check("custom_rule", step="suppress", order=1)
def even_numbers(candidate: Candidate, now: datetime) -> bool | Defer:
    """Defer messages until there is a file."""
    is_morning = Path(__file__).with_name("morning").exists()
    return False if is_morning else Defer(now + timedelta(milliseconds=100))
'''


def test_deferred_messages_go_out_when_their_rule_lets_them(shell: Shell, acme: Path) -> None:
    (acme / "acme_rules.py").write_text(DEFER_UNTIL_MORNING)
    scenario = shell.write("small.toml", make_scenario(email=60, sms=30, median="50ms"))
    settings = {"PYTHONPATH": str(acme)}
    started = shell.start("simulate", scenario, "--no-record", settings=settings)
    deferred = "SELECT count(*) FROM batches WHERE deferred > 0"
    wait_until(lambda: shell.query_number(deferred) == 2, "a batch of each campaign waits")
    wait_until(lambda: started.stderr_text.count(" deferred") >= 3, "progress shows them")
    dispatched = f"SELECT count(*) FROM transitions WHERE status = {Status.ABOUT_TO_BE_SENT:d}"  # noqa: S608
    assert shell.query_number(dispatched) == 0
    (acme / "morning").touch()
    assert started.wait() == 0, started.stderr_text
    output = started.stdout.read_text()
    assert "✔ passed" in output
    assert "every message matches its prediction" in output
    assert shell.query_number(dispatched) > 60
    assert "Deferrals limited the run" in output


def test_a_missed_expectation_gives_99_and_an_unknown_rule_2(
    shell: Shell, example_rules: Path
) -> None:
    text = make_scenario(email=200, sms=20) + '[expect]\n"hold_out.blocked" = "== 5"\n'
    scenario = shell.write("small.toml", text)
    settings = {"PYTHONPATH": str(example_rules)}
    missed = shell.run("simulate", scenario, settings=settings)
    assert missed.returncode == 99, missed.stdout + missed.stderr
    assert missed.stdout.splitlines()[-1].endswith("1 of 1 expectation not met")
    assert "expectation missed" in shell.run("runs").stdout
    unknown = shell.run("simulate", scenario)
    assert unknown.returncode == 2
    assert "no installed package has a rule named 'hold_out'" in unknown.stderr


def test_a_check_that_raises_is_named_in_the_log_that_the_result_refers_to(
    shell: Shell, acme: Path
) -> None:
    (acme / "acme_rules.py").write_text(CHECK_MODULE.replace(".number", ".no_number"))
    scenario = shell.write("small.toml", make_scenario(email=40, sms=20))
    settings = {"PYTHONPATH": str(acme)}
    ran = shell.run("simulate", scenario, "--no-record", settings=settings)
    assert ran.returncode == 3, ran.stderr
    [log] = (shell.home / "logs").iterdir()
    assert str(log) in ran.stdout.splitlines()[-1]
    assert re.search(r"check[ =]even_numbers\b.*\b40\b", log.read_text())


def test_a_run_does_not_start_with_a_check_that_cannot_be_imported(
    shell: Shell, acme: Path
) -> None:
    (acme / "acme_rules.py").write_text("import sys; sys.exit('no licence')")
    scenario = shell.write("small.toml", make_scenario(email=40, sms=20))
    ran = shell.run("simulate", scenario, settings={"PYTHONPATH": str(acme)})
    assert ran.returncode == 2
    assert (
        "check even_numbers (acme_rules:even_numbers, from acme-rules 1.0): import failed"
        in ran.stderr
    )
    assert "Traceback" not in ran.stderr
    assert not shell.home.exists()


def test_workers_do_not_start_with_a_wrong_check(shell: Shell, acme: Path) -> None:
    (acme / "acme_rules.py").write_text(
        CHECK_MODULE.replace('"""Block messages with even numbers."""', "")
    )
    worker = shell.run(
        "--app",
        "workers.app",
        "worker",
        "--concurrency=1",
        program=(sys.executable, "-m", "celery"),
        settings={"PYTHONPATH": str(acme), "SENDTRACE_BROKER_URL": "redis://localhost:1/0"},
    )
    assert worker.returncode == 2
    assert "even_numbers" in worker.stderr
    assert "missing docstring; expected one line that states the rule" in worker.stderr
    assert "Traceback" not in worker.stderr
