"""Expectations: their notation, the file of expected outcomes, and the errors of both."""

from pathlib import Path

import pytest

from simulator.scenario.expectations import Expectation
from simulator.scenario.expected_file import read_expected_outcomes
from simulator.scenario.file import InvalidScenario, Scenario, load_scenario
from tests.support.plugins import plugin_installer
from tracker.errors import UsageError
from tracker.status import Reason

SCENARIO = """
name = "test"
[[campaigns]]
name = "diwali.email"
channel = "email"
audience = 5
{campaign}
[expect]
{expectations}
"""


def load(folder: Path, expectations: str = "", campaign: str = "") -> Scenario:
    """Return a scenario with these lines in the table of expectations and in its campaign."""
    file = folder / "test.toml"
    file.write_text(SCENARIO.format(expectations=expectations, campaign=campaign))
    return load_scenario(file)


def load_one(folder: Path, line: str) -> Expectation:
    [expectation] = load(folder, line).expectations
    return expectation


@pytest.mark.parametrize(
    ("condition", "met", "missed"),
    [
        ("930..960", (930, 945, 960), (929, 961)),
        (" 1_000 .. 1_000 ", (1_000,), (999, 1_001)),
        ("== 940", (940,), (939, 941)),
        (">= 1", (1, 2), (0,)),
        ("<1_000", (999,), (1_000,)),
    ],
)
def test_conditions(
    tmp_path: Path, condition: str, met: tuple[int, ...], missed: tuple[int, ...]
) -> None:
    expectation = load_one(tmp_path, f'"hold_out.blocked" = "{condition}"')
    assert (expectation.rule, expectation.campaign) == ("hold_out", None)
    assert [expectation.is_met_by(count) for count in (*met, *missed)] == (
        [True] * len(met) + [False] * len(missed)
    )


def test_an_expectation_may_name_a_campaign(tmp_path: Path) -> None:
    expectation = load_one(tmp_path, '"diwali.email.hold_out.blocked" = "== 1"')
    assert (expectation.campaign, expectation.rule) == ("diwali.email", "hold_out")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"hold_out" = "== 1"', 'expected "RULE.blocked" or "CAMPAIGN.RULE.blocked"'),
        ('"hold_out.sent" = "== 1"', 'expected "RULE.blocked" or "CAMPAIGN.RULE.blocked"'),
        ('".blocked" = "== 1"', 'expected "RULE.blocked" or "CAMPAIGN.RULE.blocked"'),
        (
            '"diwali.emil.hold_out.blocked" = "== 1"',
            "unknown campaign 'diwali.emil'; did you mean diwali.email?",
        ),
        (
            '"hold_out.blocked" = "940"',
            'got \'940\'; expected a range like "930..960" or a condition like "== 940"',
        ),
        ('"hold_out.blocked" = "960..930"', "expected the lower number first"),
        ('"hold_out.blocked" = 940', "expected a string"),
    ],
)
def test_wrong_expectations_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InvalidScenario) as caught:
        load(tmp_path, line)
    assert "expect" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "similar"),
    [("hold_ot", "did you mean hold_out?"), ("ndnc", "expected one of hold_out")],
)
def test_an_expected_rule_must_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, similar: str
) -> None:
    scenario = load(tmp_path, f'"{rule}.blocked" = "== 1"')
    with plugin_installer(tmp_path, monkeypatch) as install:
        install("", hold_out="extra:hold_out")
        load(tmp_path, '"hold_out.blocked" = "== 1"').require_rules()
        with pytest.raises(UsageError) as caught:
            scenario.require_rules()
    assert str(caught.value).startswith(
        f'{scenario.path}: expect."{rule}.blocked": no installed package has a rule named'
        f" {rule!r}; {similar}"
    )


def test_a_file_has_a_reason_or_sent_for_each_customer(tmp_path: Path) -> None:
    file = tmp_path / "expected.csv"
    file.write_text("\ufeffCustomer_ID, Expected\nc1,sent\n\nc2 , custom_rule\n", encoding="utf-8")
    assert read_expected_outcomes(file) == {"c1": 0, "c2": Reason.CUSTOM_RULE}
    scenario = load(tmp_path, campaign='expect = "expected.csv"')
    assert scenario.expected_files == [file]
    assert file in scenario.source_files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: got ''; expected the header customer_id,expected"),
        ("customer_id,reason\n", "expected the header customer_id,expected"),
        ("customer_id,expected\n", "no customers; expected one in each line after the header"),
        ("customer_id,expected\nc1\n", "line 2: got 1 cells; expected 2, as in the header"),
        (
            "customer_id,expected\nc1,sent\nc2,unsubscribd\n",
            "line 3: unknown outcome 'unsubscribd'; did you mean unsubscribed?; expected sent or",
        ),
        ("customer_id,expected\nc1,sent\nc1,ndnc\n", "line 3: customer 'c1' occurs twice"),
        ('customer_id,expected\n"c1,sent\n', "unexpected end of data"),
        (b"customer_id,expected\n\xff,sent\n", "not UTF-8 text"),
        (None, "can't be read: No such file or directory"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    file = tmp_path / "expected.csv"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidScenario) as caught:
        load(tmp_path, campaign='expect = "expected.csv"')
    assert f"campaigns[0].expect: {file}: " in str(caught.value)
    assert message in str(caught.value)
