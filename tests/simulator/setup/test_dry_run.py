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


def test_a_check_that_raises_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "all_checks", lambda: (fragile,))
    people = tmp_path / "people.csv"
    people.write_text("customer_id,email\nanna,anna@example.com\nanna,again@example.com\n")
    scenario = load_scenario(SCENARIOS / "follow-up.toml", audience=people)
    notes: list[str] = []
    verdicts = list(judge_customers(scenario, tmp_path, notes.append))
    assert {reason for _, _, reason in verdicts} == {Reason.RULE_FAILED}
    assert notes[0].startswith("people.csv: 1 row could not be read; the first is line 3: ")
    assert "check fragile failed on 3 messages, first with LookupError('anna')" in notes[-1]


def test_the_verdicts_match_the_prediction(tmp_path: Path) -> None:
    scenario = load_scenario(SCENARIOS / "from-csv.toml")
    verdicts = list(judge_customers(scenario, tmp_path, print))
    counts = Counter(reason for _, _, reason in verdicts if reason is not None)
    assert counts == +count_predicted_reasons(scenario)
    assert len(verdicts) == 2 * 1_974
    assert len({customer for _, customer, _ in verdicts}) == 1_974


def test_another_audience_replaces_the_scenarios(tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("customer_id,email\nanna,anna@example.com\nbert,\n")
    (tmp_path / "home").mkdir()
    scenario = load_scenario(SCENARIOS / "follow-up.toml", audience=people)
    verdicts = list(judge_customers(scenario, tmp_path / "home", print))
    assert ("newsletter", "anna", None) in verdicts
    assert ("newsletter", "bert", Reason.EMAIL_MISSING) in verdicts
