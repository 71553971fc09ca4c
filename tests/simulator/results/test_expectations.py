"""Expectations are judged from the record, and a missed one fails a run that is proven."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulator.pages.result_page import render_result_page
from simulator.pages.result_text import format_result
from simulator.results.observations import RunState
from simulator.results.result import RunResult, judge_run
from simulator.setup.rebuild import load_run
from simulator.setup.record import start_run
from tests.support.inline_runs import (
    build_campaign,
    build_scenario,
    judge_recorded_run,
    run_scenario,
)
from tests.support.plugins import plugin_installer
from tracker.errors import UsageError
from tracker.store.database import Database

pytestmark = pytest.mark.usefixtures("no_retry_delay")

HOLD_OUT = """\
from workers.checks.base import check

@check("custom_rule", step="suppress", order=35)
def hold_out(candidate, now):
    "Block every tenth customer."
    return candidate.number % 10 == 0
"""


@pytest.fixture
def hold_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the rule `hold_out`."""
    folder = tmp_path / "site"
    folder.mkdir()
    with plugin_installer(folder, monkeypatch) as install:
        install(HOLD_OUT, hold_out="extra:hold_out")
        yield


@pytest.fixture
def run(database: Database, tmp_path: Path, hold_out: None) -> Callable[..., RunResult]:
    """Return a function that runs two campaigns to 50 customers with these expectations."""

    def run(expect: dict[str, str] | None = None, expected: str | None = None) -> RunResult:
        if expected is not None:
            (tmp_path / "expected.csv").write_text("customer_id,expected\n" + expected)
        scenario = build_scenario(
            build_campaign("one", audience=50, expect=None if expected is None else "expected.csv"),
            build_campaign("two", audience=20),
            path=tmp_path / "test.toml",
            expect=expect or {},
        )
        return run_scenario(database, scenario, tmp_path)

    return run


def test_met_expectations_pass(run: Callable[..., RunResult]) -> None:
    expected = "c0,custom_rule\nc7,sent\nc40,custom_rule\n"
    result = run({"hold_out.blocked": "6..8", "two.hold_out.blocked": "== 2"}, expected)
    assert result.has_passed
    assert [(outcome.actual, outcome.is_met) for outcome in result.expectations] == [
        (7, True),
        (2, True),
        (3, True),
    ]
    summary = result.as_json()
    assert summary["verdict"]["expectations_met"] is True
    assert summary["expectations"][0] == {
        "expectation": "hold_out.blocked",
        "expected": "6..8",
        "actual": 7,
        "passed": True,
        "not_judged": None,
        "differences": [],
    }
    text = format_result(result)
    assert "✔ expectation     hold_out.blocked       7   6..8" in text
    assert "matches its prediction, expectations met" in text
    assert "3 of 3 met" in render_result_page(result)


def test_a_missed_expectation_fails_a_proven_run(run: Callable[..., RunResult]) -> None:
    expected = "c1,custom_rule\nc10,sent\nc11,sent\nc20,unsubscribed\n"
    result = run({"hold_out.blocked": "== 6"}, expected)
    assert result.is_proven
    assert not result.has_passed
    text = format_result(result)
    assert "✘ expectation     hold_out.blocked    7   == 6" in text
    assert "customer c1, message 1: expected not_sent: custom_rule, got delivered on" in text
    assert "customer c10, message 10: expected sent, got not_sent: custom_rule" in text
    assert "expected not_sent: unsubscribed, got not_sent: custom_rule" in text
    assert text.splitlines()[-1].endswith("2 of 2 expectations not met")
    assert "customer c10, message 10: expected sent" in render_result_page(result)
    by_rule, by_file = result.as_json()["expectations"]
    assert (by_rule["passed"], by_file["passed"], by_file["actual"]) == (False, False, 1)
    assert by_file["expectation"] == "one: expected.csv"
    assert [difference["customer"] for difference in by_file["differences"]] == ["c1", "c10", "c20"]
    assert result.as_json()["verdict"]["expectations_met"] is False


def test_a_partial_run_has_no_judgement(database: Database, run: Callable[..., RunResult]) -> None:
    result = run({"hold_out.blocked": "== 6"}, "c1,custom_rule\n")
    partial = replace(result.observations, state=RunState.INTERRUPTED)
    result = judge_run(database, result.run, partial, result.conditions)
    assert [outcome.is_met for outcome in result.expectations] == [None, None]
    assert not result.has_passed
    assert result.as_json()["verdict"]["expectations_met"] is None
    assert "– expectation     hold_out.blocked    7   == 6   not judged: the run" in format_result(
        result
    )


def test_expected_outcomes_outlive_their_file(
    database: Database, tmp_path: Path, run: Callable[..., RunResult]
) -> None:
    result = run(expected="c1,custom_rule\nc2,sent\n")
    start_run(database, result.run)
    (tmp_path / "expected.csv").unlink()
    text = (
        'name = "test"\nseed = 42\n[[campaigns]]\nname = "one"\nchannel = "email"\naudience = 50\n'
        'expect = "expected.csv"\n[[campaigns]]\nname = "two"\nchannel = "email"\naudience = 20\n'
    )
    with database.write() as connection:
        connection.exec_driver_sql(f"UPDATE runs SET definition = '{text}'")  # noqa: S608
        rebuilt = load_run(connection, result.run.id)
    again = judge_recorded_run(database, rebuilt)
    assert [outcome.as_json() for outcome in again.expectations] == [
        outcome.as_json() for outcome in result.expectations
    ]


def test_an_unknown_customer_is_an_error(run: Callable[..., RunResult]) -> None:
    with pytest.raises(UsageError, match=r"csv: 2 customers not in .*; the first is 'c99'"):
        run(expected="c1,sent\nc99,sent\nc100,sent\n")
