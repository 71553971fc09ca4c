"""A dry run: the checks judge a scenario's customers without a run."""

from collections import Counter
from pathlib import Path

import pytest

from simulator.oracle.coverage import count_predicted_reasons
from simulator.scenario.file import load_scenario
from simulator.setup import dry_run
from simulator.setup.dry_run import judge_customers
from tests.support.paths import SCENARIOS
from tests.support.rules import fragile
from tracker.status import Reason
from workers.rules.as_of import PASSES, Verdict


def test_a_check_that_raises_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "all_checks", lambda: (fragile,))
    people = tmp_path / "people.csv"
    people.write_text("customer_id,email\nanna,anna@example.com\nanna,again@example.com\n")
    scenario = load_scenario(SCENARIOS / "follow-up.toml", audience=people)
    notes: list[str] = []
    verdicts = list(judge_customers(scenario, tmp_path, notes.append))
    assert {verdict for _, _, verdict in verdicts} == {Verdict(Reason.RULE_FAILED, "fragile")}
    assert notes[0].startswith("people.csv: 1 row could not be read; the first is line 3: ")
    assert "check fragile failed on 3 messages, first with LookupError('anna')" in notes[-1]


def test_the_verdicts_match_the_prediction(tmp_path: Path) -> None:
    scenario = load_scenario(SCENARIOS / "from-csv.toml")
    verdicts = list(judge_customers(scenario, tmp_path, print))
    counts = Counter(verdict.reason for _, _, verdict in verdicts if verdict != PASSES)
    assert counts == +count_predicted_reasons(scenario)
    assert len(verdicts) == 2 * 1_974
    assert len({customer for _, customer, _ in verdicts}) == 1_974


def test_another_audience_replaces_the_scenarios(tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("customer_id,email\nanna,anna@example.com\nbert,\n")
    (tmp_path / "home").mkdir()
    scenario = load_scenario(SCENARIOS / "follow-up.toml", audience=people)
    verdicts = list(judge_customers(scenario, tmp_path / "home", print))
    assert ("newsletter", "anna", PASSES) in verdicts
    assert ("newsletter", "bert", Verdict(Reason.EMAIL_MISSING, "email_missing")) in verdicts
