"""A run with a rule of another package: what it blocks isn't predicted, everything else is."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from simulator.pages.result_page import render_result_page
from simulator.pages.result_text import format_result
from simulator.results.result import RunResult
from tests.support.inline_runs import assert_passed, build_campaign, build_scenario, run_scenario
from tests.support.plugins import plugin_installer
from tracker.queries.failures import read_messages_by_check
from tracker.status import Reason, Status
from tracker.store.database import Database
from workers.checks import base
from workers.checks.base import all_checks

pytestmark = pytest.mark.usefixtures("no_retry_delay")

RULE = """\
from workers.checks.base import check

@check({reason!r}, step={step!r}, order={order})
def hold_out(candidate, now):
    "Block every third customer of the first campaign."
    return {expression}
"""

EVERY_THIRD = "candidate.number % 3 == 0 and candidate.campaign.name == 'one'"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that installs the rule `hold_out`."""
    folder = tmp_path / "site"
    folder.mkdir()
    with plugin_installer(folder, monkeypatch) as install_plugin:

        def install(
            reason: str = "custom_rule",
            step: str = "suppress",
            order: int = 1,
            expression: str = EVERY_THIRD,
        ) -> None:
            source = RULE.format(reason=reason, step=step, order=order, expression=expression)
            install_plugin(source, hold_out="extra:hold_out")

        yield install


def disable_check(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make a check of sendtrace block nothing."""

    def block_nothing(candidate: object, now: object) -> bool:
        return False

    checks = tuple(
        replace(check, rule=block_nothing) if check.name == name else check
        for check in all_checks()
    )
    assert any(check.rule is block_nothing for check in checks)
    monkeypatch.setattr(base, "all_checks", lambda: checks)


def sent(result: RunResult) -> list[int]:
    """Return how many messages each campaign sent."""
    return [report.sent for report in result.reports]


@pytest.mark.parametrize(
    ("reason", "step"),
    [
        ("custom_rule", "suppress"),
        ("message_limit", "suppress"),
        ("out_of_credit", "validate"),
    ],
)
def test_messages_that_a_rule_blocked_are_counted_by_rule(
    database: Database, tmp_path: Path, install: Callable[..., None], reason: str, step: str
) -> None:
    install(reason, step)
    scenario = build_scenario(
        build_campaign("one", audience=60, defects={"email_missing": 0.2}),
        build_campaign("two", audience={"same_as": "one"}, after="one"),
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    one, two = result.prediction_checks
    blocked = one.not_predicted["hold_out"]
    assert (one.compared, two.compared) == (60 - blocked, 60)
    assert (one.uncertain, two.uncertain, two.not_predicted) == (0, 0, {})
    with database.read() as connection:
        ids = result.run.campaign_ids
        numbers = read_messages_by_check(connection, ids[0])["hold_out"]
        assert read_messages_by_check(connection, ids[1]) == {}
    if step == "suppress":
        assert numbers.tolist() == [*range(0, 60, 3)]
    compared = f"{one.compared} of {one.compared} messages"
    text = f"{compared}; {blocked} not predicted (hold_out blocked {blocked})"
    assert text in format_result(result)
    assert text in render_result_page(result)
    assert f"every other message matches its prediction; {blocked} not" in format_result(result)
    prediction = result.as_json()["prediction"]
    assert prediction["not_predicted"] == {"hold_out": blocked}
    assert [campaign["not_predicted"] for campaign in prediction["campaigns"]] == [
        {"hold_out": blocked},
        {},
    ]


def test_the_time_of_a_slow_rule_is_in_the_result(
    database: Database, tmp_path: Path, install: Callable[..., None]
) -> None:
    install(expression="__import__('time').sleep(0.02) is not None")
    scenario = build_scenario(build_campaign("one", audience=60))
    result = run_scenario(database, scenario, tmp_path)
    assert next(iter(result.check_times)) == "hold_out"
    times = result.as_json()["check_times"]["hold_out"]
    assert (times["calls"], times["seconds"] >= 1.2) == (60, True)
    assert re.search(
        r"! Check hold_out took \d\.\d s of the workers' time, \d+\.\d ms a message",
        format_result(result),
    )


@pytest.mark.parametrize("disabled", ["unsubscribed", "bounced_repeatedly"])
def test_a_rule_does_not_excuse_a_broken_check(
    database: Database,
    tmp_path: Path,
    install: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    disabled: str,
) -> None:
    install(disabled)
    disable_check(monkeypatch, disabled)
    scenario = build_scenario(build_campaign("one", audience=60, defects={disabled: 0.5}))
    result = run_scenario(database, scenario, tmp_path)
    [check] = result.prediction_checks
    assert check.differing > 0
    assert not result.is_proven
    assert check.not_predicted == {"hold_out": 20}


def test_the_next_campaign_is_predicted_from_what_the_rule_left(
    database: Database, tmp_path: Path, install: Callable[..., None]
) -> None:
    """Bounces, opt-outs and the message limit of the second campaign follow from the record."""
    install()
    scenario = build_scenario(
        build_campaign("one", audience=90),
        build_campaign("two", audience={"same_as": "one"}, after="one"),
        build_campaign("three", audience={"same_as": "one"}, after="two"),
        organization={"message_limit": {"count": 2, "days": 1}, "hard_bounce_limit": 1},
        gateways={"email": {"hard_bounce": 0.2}},
        engagement={"email": {"open": 1.0, "spam": 0.3}},
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    assert [check.uncertain for check in result.prediction_checks] == [0, 0, 0]
    assert result.prediction_checks[0].not_predicted == {"hold_out": 30}
    one, two, three = sent(result)
    assert one == 60
    limited = result.reports[2].count_messages(Status.NOT_SENT, Reason.MESSAGE_LIMIT)
    assert 0 < three < 30, "only customers whom the rule blocked have had one message so far"
    assert limited > 0 < two


@pytest.mark.parametrize("concurrent", [(), ("one", "two"), ("two", "one")])
@pytest.mark.parametrize(
    "organization", [{"credit": 50}, {"message_limit": {"count": 1, "days": 1}}]
)
def test_blocked_messages_use_no_allowance(
    database: Database,
    tmp_path: Path,
    install: Callable[..., None],
    concurrent: tuple[str, ...],
    organization: dict[str, Any],
) -> None:
    install()
    scenario = build_scenario(
        build_campaign("one", audience=60),
        build_campaign("two", audience={"same_as": "one"}),
        organization=organization,
    )
    result = run_scenario(database, scenario, tmp_path, concurrent=concurrent)
    assert_passed(result)
    [withheld] = result.withheld.values()
    assert withheld.predicted == withheld.actual == 100 - sum(sent(result))


def test_a_rule_that_fails_is_not_excused(
    database: Database, tmp_path: Path, install: Callable[..., None]
) -> None:
    install(expression="1 / (candidate.number % 3) < 0")
    result = run_scenario(database, build_scenario(build_campaign("one", audience=60)), tmp_path)
    [check] = result.prediction_checks
    assert (check.differing, check.not_predicted) == (20, {})
    assert not result.is_proven


def test_a_shipped_check_on_record_is_not_excused(
    database: Database,
    tmp_path: Path,
    install: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A check of sendtrace that blocks for another reason than its own is no foreign rule."""
    checks = tuple(
        replace(
            check,
            reason=Reason.NDNC,
            rule=_named("unsubscribed", lambda number: number % 3 == 0),
            suspects=None,
        )
        if check.name == "unsubscribed"
        else check
        for check in all_checks()
    )
    monkeypatch.setattr(base, "all_checks", lambda: checks)
    result = run_scenario(database, build_scenario(build_campaign("one", audience=60)), tmp_path)
    [check] = result.prediction_checks
    assert (check.differing, check.not_predicted) == (20, {})


def _named(name: str, blocks: Callable[[int], bool]) -> base.Rule:
    def rule(candidate: Any, now: object) -> bool:
        return blocks(candidate.number)

    rule.__name__ = name
    return rule


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("None", "InvalidVerdict: hold_out returned None; expected True, False or Defer(until)"),
        ("{}['city']", "KeyError: 'city'"),
    ],
)
def test_a_rule_that_fails_sends_nobody_and_is_named_in_the_result(
    database: Database,
    tmp_path: Path,
    install: Callable[..., None],
    expression: str,
    error: str,
) -> None:
    install(expression=expression)
    result = run_scenario(database, build_scenario(build_campaign("one", audience=4)), tmp_path)
    assert sent(result) == [0]
    assert not result.has_passed
    note = f"Check hold_out failed on 4 messages, for example with {error}"
    assert note in format_result(result)
    assert escape(note) in render_result_page(result)
    assert result.as_json()["failures"] == [
        {"reason": "rule_failed", "check": "hold_out", "messages": 4, "error": error}
    ]
