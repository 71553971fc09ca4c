"""The tools for those who write rules: explain, diff, try, coverage, and their output."""

import sys
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulator.cli.main import app
from simulator.oracle.coverage import count_predicted_reasons, scenarios_by_column
from simulator.scenario.file import load_scenario
from simulator.setup import dry_run
from simulator.setup.dry_run import judge_customers
from tests.support.factory import Plan, make_batch, move, stopped
from tests.support.paths import SCENARIOS
from tracker.errors import NotFound, UsageError
from tracker.output.tables import RowFormat
from tracker.record.allowance import MAX_MESSAGE_LIMIT_DAYS
from tracker.record.catalog import Campaign
from tracker.settings import Settings
from tracker.status import Reason, Step
from tracker.store.database import Database
from workers.candidates import Candidate
from workers.checks.base import all_checks, check
from workers.rules import rejudge
from workers.rules.changes import apply_rule_changes, find_ineffective_settings
from workers.rules.explain import explain, find_message_number
from workers.rules.rejudge import Rules, compare_rules


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
def not_on_tuesdays(candidate: Candidate, now: datetime) -> bool:
    """The customer's number is 3, and that is reason enough."""
    return candidate.customer.number == 3


@check(Reason.NDNC, step=Step.SUPPRESS, order=1)
def fragile(candidate: Candidate, now: datetime) -> bool:
    """Breaks."""
    raise LookupError(candidate.customer.customer_id)


NO_CHECK = "no check"


@pytest.fixture
def campaign(database: Database) -> Campaign:
    """Ten messages: number 1 has no address, 2 unsubscribed, both on record; 4 bounced since."""
    people: dict[int, dict[str, object]] = {
        1: {"email": None},
        2: {"unsubscribed_email": True},
        4: {"hard_bounces_email": 1},
    }
    batch = make_batch(database, Plan(size=10), people)
    move(database, batch, [2], stopped(Reason.UNSUBSCRIBED), step=Step.SUPPRESS)
    move(database, batch, [1], stopped(Reason.EMAIL_MISSING), step=Step.VALIDATE)
    return batch.campaign


@pytest.fixture
def rules(campaign: Campaign) -> Rules:
    return Rules(campaign=campaign, checks=all_checks())


def test_a_message_is_explained_by_every_check(database: Database, rules: Rules) -> None:
    found = explain(database, rules, 2, rules.campaign.clock.now())
    assert [each.check for each in found.verdicts] == [each.name for each in all_checks()]
    assert [each.check for each in found.verdicts if each.is_blocking] == ["unsubscribed"]
    assert (found.reason, found.blocking_check) == (Reason.UNSUBSCRIBED, "unsubscribed")
    assert found.recorded_outcome == "not_sent: unsubscribed"
    looked_at = {each.check: each.looked_at for each in found.verdicts}
    assert looked_at["unsubscribed"] == {"subscription.unsubscribed": True}
    assert looked_at["bounced_repeatedly"] == {
        "customer.hard_bounces": 0,
        "campaign.organization.hard_bounce_limit": 1,
        "customer.soft_bounces": 0,
        "campaign.organization.soft_bounce_limit": 3,
    }


def test_who_is_in_order_is_explained_too(database: Database, rules: Rules) -> None:
    found = explain(database, rules, 0, rules.campaign.clock.now())
    assert (found.reason, found.blocking_check, found.recorded_outcome) == (None, None, "queued")


def test_what_is_asked_for_by_name_is_looked_at(database: Database, rules: Rules) -> None:
    @check(Reason.DATA_MISSING, step=Step.VALIDATE, order=1)
    def wordy(candidate: Candidate, now: datetime) -> bool:
        """The customer's city is Ulm."""
        return candidate.customer.value(name="tag:city") == "Ulm"

    found = explain(database, replace(rules, checks=[wordy]), 0, rules.campaign.clock.now())
    assert found.verdicts[0].looked_at == {"customer.value(name='tag:city')": None}


def test_a_check_that_raises_is_explained(database: Database, rules: Rules) -> None:
    with_it = replace(rules, checks=[fragile, *rules.checks])
    found = explain(database, with_it, 5, rules.campaign.clock.now())
    assert found.verdicts[0].error == "LookupError('c5')"
    assert (found.reason, found.blocking_check) == (Reason.TIMEOUT, "fragile")


def test_a_customer_is_found_by_id_or_the_nearest_are_named(
    database: Database, campaign: Campaign
) -> None:
    with database.read() as connection:
        assert find_message_number(connection, campaign, "c7") == 7
        with pytest.raises(NotFound, match=r"no customer 'c77'; did you mean .*c7"):
            find_message_number(connection, campaign, "c77")


@pytest.mark.parametrize("number", [10, -1, 2**70 - 1])
def test_a_message_that_there_is_not_is_said_so(
    database: Database, rules: Rules, number: int
) -> None:
    with pytest.raises(NotFound, match=f"has no message {number}"):
        explain(database, rules, number, 0)


def test_a_campaign_is_judged_again(database: Database, rules: Rules) -> None:
    after = apply_rule_changes(
        rules,
        settings=["hard_bounce_limit=2"],
        without=["unsubscribed"],
        extra=["tests.workers.rules.test_rule_tools:not_on_tuesdays"],
    )
    found = compare_rules(database, rules, after)
    assert found.judged == 10
    assert found.changes == Counter(
        {
            (Reason.UNSUBSCRIBED, None): 1,
            (Reason.BOUNCED_REPEATEDLY, None): 1,
            (None, Reason.CONFIGURATION): 1,
        }
    )
    assert found.samples[None, Reason.CONFIGURATION] == ["c3"]
    assert found.record_mismatches == 1, (
        "number 4 is on record as queued, and would be suppressed now"
    )


def test_under_the_same_rules_nothing_changes(database: Database, rules: Rules) -> None:
    assert not compare_rules(database, rules, rules).changes


def test_chunks_do_not_matter(
    database: Database, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = apply_rule_changes(rules, settings=["enabled=false"], without=[], extra=[])
    whole = compare_rules(database, rules, after)
    monkeypatch.setattr(rejudge, "MESSAGES_PER_CHUNK", 3)
    assert compare_rules(database, rules, after) == whole
    assert whole.changes[None, Reason.ORGANIZATION_DISABLED] == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"settings": ["message_limit=2"]},
            "unknown key 'message_limit'; did you mean message_lim",
        ),
        ({"settings": ["nope=1"]}, "unknown key 'nope'; expected one of enabled, message_limit.co"),
        ({"settings": ["message_limit.count"]}, "expected message_limit.count=VALUE"),
        ({"settings": ["message_limit.count=two"]}, "expected a whole number from 1"),
        ({"settings": ["message_limit.count=0"]}, "expected a whole number from 1"),
        (
            {"settings": ["message_limit.days=0"]},
            "days=0: expected a whole number from 1 to 36,500",
        ),
        ({"settings": ["message_limit.days=99999999999"]}, "a whole number from 1 to 36,500"),
        ({"settings": [f"hard_bounce_limit={'9' * 5_000}"]}, "a whole number from 1 to 1,000"),
        ({"settings": ["requires=coupon,bogus"]}, "unknown requirement 'bogus'; expected coupon"),
        ({"settings": ["enabled=perhaps"]}, "expected true or false"),
        ({"without": ["unsubscribe"]}, "no such check; did you mean unsubscribed"),
        ({"without": ["zzz"]}, "no such check; expected one of 19, such as"),
        ({"extra": ["nowhere"]}, "--with nowhere: expected MODULE:FUNCTION"),
        ({"extra": ["nowhere:at_all"]}, "--with nowhere:at_all: import failed"),
        (
            {"extra": ["tests.workers.rules.test_rule_tools:NO_CHECK"]},
            "got .*; expected a function decorated",
        ),
        ({"extra": ["workers.checks.suppression:ndnc"]}, "there is a check ndnc already"),
        (
            {"extra": ["tests.workers.rules.test_rule_tools:not_on_tuesdays"] * 2},
            "there is a check not_on_tuesdays already",
        ),
    ],
)
def test_changes_that_make_no_sense(
    rules: Rules, changes: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        apply_rule_changes(rules, **{"settings": [], "without": [], "extra": [], **changes})


def test_the_longest_period_can_be_looked_back_on(database: Database, rules: Rules) -> None:
    settings = ["message_limit.count=1", f"message_limit.days={MAX_MESSAGE_LIMIT_DAYS}"]
    after = apply_rule_changes(rules, settings=settings, without=[], extra=[])
    assert not compare_rules(database, rules, after).changes


def test_days_of_no_limit_are_noted(rules: Rules) -> None:
    def noted(*settings: str) -> list[str]:
        return find_ineffective_settings(
            apply_rule_changes(rules, settings=settings, without=[], extra=[]), settings
        )

    [said] = noted("message_limit.days=7")
    assert "message_limit.days=7 changes nothing" in said
    assert not noted("message_limit.days=7", "message_limit.count=2")
    assert not noted("enabled=true")


def test_a_module_of_the_current_folder_is_found(
    rules: Rules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "from_here.py").write_text(
        "from tests.workers.rules.test_rule_tools import not_on_tuesdays as rule\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    after = apply_rule_changes(rules, settings=[], without=[], extra=["from_here:rule"])
    assert "not_on_tuesdays" in [each.name for each in after.checks]


def test_a_check_that_raises_is_named_in_a_comparison(database: Database, rules: Rules) -> None:
    after = apply_rule_changes(
        rules, settings=[], without=[], extra=["tests.workers.rules.test_rule_tools:fragile"]
    )
    found = compare_rules(database, rules, after)
    assert found.changes[None, Reason.TIMEOUT] == 7
    [line] = found.check_errors.format_lines()
    assert line.startswith("the check fragile failed on 10 messages, first with LookupError('c0')")


@pytest.mark.parametrize("format", RowFormat)
def test_notes_stand_beside_a_result_that_programs_read(
    campaign: Campaign, settings: Settings, format: str
) -> None:
    told = [
        "--campaign",
        campaign.name,
        "--database",
        settings.resolved_database_url,
        "--format",
        format,
    ]
    ended = CliRunner().invoke(
        app, ["checks", "diff", *told, "--with", "tests.workers.rules.test_rule_tools:fragile"]
    )
    assert ended.exit_code == 0, ended.output
    assert "note: the check fragile failed on 10 messages" in ended.stderr
    assert "note: 1 verdict would not be as on record, even with nothing changed" in ended.stderr
    assert "note" not in ended.stdout


def test_a_check_that_raises_is_named_in_a_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "all_checks", lambda: (fragile,))
    people = tmp_path / "people.csv"
    people.write_text("customer_id,email\nanna,anna@example.com\nanna,again@example.com\n")
    scenario = load_scenario(SCENARIOS / "follow-up.toml", audience=people)
    said: list[str] = []
    judged = list(judge_customers(scenario, tmp_path, said.append))
    assert {reason for _, _, reason in judged} == {Reason.TIMEOUT}
    assert said[0].startswith("people.csv: 1 row could not be read; the first is line 3: ")
    assert "the check fragile failed on 3 messages, first with LookupError('anna')" in said[-1]


def test_scenarios_of_one_name_are_told_apart(tmp_path: Path) -> None:
    sale = load_scenario(SCENARIOS / "demo.toml")
    odd = replace(sale, name="reason")
    one, two, three = (tmp_path / name for name in ("one.toml", "two.toml", "three.toml"))
    columns = scenarios_by_column({one: sale, two: sale, three: odd})
    assert list(columns) == [f"{sale.name} ({one})", f"{sale.name} ({two})", f"reason ({three})"]
    assert list(scenarios_by_column({one: sale})) == [sale.name]


@pytest.mark.parametrize("name", ["sale.toml", "people.csv"])
@pytest.mark.parametrize("option", ["--verdicts", "--json"])
def test_what_is_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    people, sale = tmp_path / "people.csv", tmp_path / "sale.toml"
    people.write_text("customer_id,email\nanna,anna@example.com\n")
    sale.write_text(
        'name = "sale"\n[[campaigns]]\nname = "one"\nchannel = "email"\naudience = "people.csv"\n'
    )
    before = (tmp_path / name).read_text()
    verb = ["checks", "try", "--scenario"] if option == "--verdicts" else ["simulate"]
    ended = CliRunner().invoke(app, [*verb, str(sale), option, f"./{name}"])
    assert ended.exit_code == 2
    assert f"{option} {name}: got an input file; expected another file" in ended.stderr
    assert (tmp_path / name).read_text() == before


def test_nothing_is_written_where_a_check_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        raise UsageError("the check x can't be loaded")

    monkeypatch.setattr("workers.checks.base.all_checks", refused)
    monkeypatch.setenv("SENDTRACE_HOME", str(tmp_path / "home"))
    ended = CliRunner().invoke(app, ["simulate", str(SCENARIOS / "demo.toml")])
    assert (ended.exit_code, ended.stderr) == (2, "sendtrace: the check x can't be loaded\n")
    assert not (tmp_path / "home").exists()


def test_a_dry_run_says_what_is_foretold(tmp_path: Path) -> None:
    scenario = load_scenario(SCENARIOS / "from-csv.toml")
    judged = list(judge_customers(scenario, tmp_path, print))
    counts = Counter(reason for _, _, reason in judged if reason is not None)
    assert counts == +count_predicted_reasons(scenario)
    assert len(judged) == 2 * 1_974
    assert len({customer for _, customer, _ in judged}) == 1_974


def test_a_dry_run_on_other_people(tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("customer_id,email\nanna,anna@example.com\nbert,\n")
    (tmp_path / "home").mkdir()
    scenario = load_scenario(SCENARIOS / "follow-up.toml", audience=people)
    judged = list(judge_customers(scenario, tmp_path / "home", print))
    assert ("newsletter", "anna", None) in judged
    assert ("newsletter", "bert", Reason.EMAIL_MISSING) in judged
