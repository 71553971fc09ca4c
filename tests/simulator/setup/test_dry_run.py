"""A dry run: the checks judge a scenario's customers without a run."""

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from simulator import progress_lines
from simulator.oracle.coverage import count_predicted_reasons
from simulator.scenario.file import load_scenario
from simulator.setup import dry_run
from simulator.setup.dry_run import DryRun
from tests.support.inline_runs import build_campaign, build_scenario
from tests.support.paths import SCENARIOS
from tests.support.rules import fragile
from tracker.clock import from_datetime
from tracker.errors import SendtraceError
from tracker.status import Reason, Step
from workers.candidates import Candidate
from workers.checks.base import check
from workers.rules.as_of import PASSES, Verdict
from workers.steps import limits


def test_a_check_that_raises_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "all_checks", lambda: (fragile,))
    people = tmp_path / "people.csv"
    people.write_text("customer_id,email\nanna,anna@example.com\nanna,again@example.com\n")
    scenario = load_scenario(SCENARIOS / "follow-up.toml", audience=people)
    notes: list[str] = []
    trial = DryRun(scenario, tmp_path, notes.append)
    verdicts = list(trial.judge_customers())
    assert {verdict for _, _, verdict in verdicts} == {Verdict(Reason.RULE_FAILED, "fragile")}
    assert notes[0].startswith("people.csv: 1 row could not be read; the first is line 3: ")
    [line] = trial.check_errors.format_lines()
    assert "check fragile failed on 3 messages, first with LookupError('anna')" in line


def test_the_verdicts_match_the_prediction(tmp_path: Path) -> None:
    scenario = load_scenario(SCENARIOS / "from-csv.toml")
    verdicts = list(DryRun(scenario, tmp_path, print).judge_customers())
    counts = Counter(verdict.reason for _, _, verdict in verdicts if verdict != PASSES)
    assert counts == +count_predicted_reasons(scenario)
    assert len(verdicts) == 2 * 1_976
    assert len({customer for _, customer, _ in verdicts}) == 1_976


def test_another_audience_replaces_the_scenarios(tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("customer_id,email\nanna,anna@example.com\nbert,\n")
    (tmp_path / "home").mkdir()
    scenario = load_scenario(SCENARIOS / "follow-up.toml", audience=people)
    verdicts = list(DryRun(scenario, tmp_path / "home", print).judge_customers())
    assert ("newsletter", "anna", PASSES) in verdicts
    assert ("newsletter", "bert", Verdict(Reason.EMAIL_MISSING)) in verdicts


@check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1)
def after_six(candidate: Candidate, now: datetime) -> bool:
    """Block messages after six in the evening."""
    return now.hour >= 18


def test_each_message_is_judged_at_its_arrival(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "all_checks", lambda: (after_six,))
    load = {"start": "10m", "shape": {"constant": 1}}
    scenario = build_scenario(build_campaign(audience=1_000, load=load))
    starts_at = from_datetime(datetime(2026, 12, 24, 17, 40, tzinfo=UTC))
    verdicts = DryRun(scenario, tmp_path, print, starts_at).judge_customers()
    blocked = [verdict.reason is Reason.CUSTOM_RULE for _, _, verdict in verdicts]
    assert blocked == [False] * 600 + [True] * 400, "it is six o'clock after twenty minutes"


def test_a_message_has_the_limits_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1)
    def waits(candidate: Candidate, now: datetime) -> bool:
        """Wait for ever at number 3."""
        while candidate.number == 3:
            time.sleep(10)
        return False

    monkeypatch.setattr(dry_run, "all_checks", lambda: (waits,))
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.02)
    scenario = build_scenario(build_campaign())
    trial = DryRun(scenario, tmp_path / "rule", print)
    verdicts = [verdict for _, _, verdict in trial.judge_customers()]
    assert verdicts == [*[PASSES] * 3, Verdict(Reason.RULE_FAILED, "waits"), PASSES]
    monkeypatch.setattr(limits, "MAX_RULE_TICKS", 1_000)
    monkeypatch.setattr(limits, "MAX_STEP_SECONDS", 0.2)
    monkeypatch.setattr(limits, "MIN_STEP_SECONDS", 0.2)
    monkeypatch.setattr(limits, "KILL_GRACE_SECONDS", 600)  # would end the tests' own process
    with pytest.raises(SendtraceError, match="5 messages of campaign spring, from number 0 on: no"):
        list(DryRun(scenario, tmp_path / "step", print).judge_customers())


def test_a_large_audience_shows_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_lines, "INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(dry_run, "MESSAGES_PER_CHUNK", 2)
    lines: list[str] = []
    list(DryRun(build_scenario(build_campaign()), tmp_path, lines.append).judge_customers())
    assert lines == [
        "5 customers read",
        "2 of 5 messages judged",
        "4 of 5 messages judged",
        "5 of 5 messages judged",
    ]
