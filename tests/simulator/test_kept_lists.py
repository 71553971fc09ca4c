"""Organizations that keep their list: what one run learns of recipients holds in the next one."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from simulator.cli.simulate import choose_exit_code
from simulator.results.result import RunResult
from simulator.results.verdict import list_notes
from simulator.run.outcome import RunOutcome
from simulator.setup import kept_lists
from simulator.setup.census import load_census
from tests.support.inline_runs import (
    assert_passed,
    build_campaign,
    build_scenario,
    judge_recorded_run,
    run_scenario,
)
from tracker.clock import SystemClock, from_datetime
from tracker.record.suppressions.entries import (
    Recipient,
    Selection,
    Suppression,
    add_entries,
    read_entries,
    remove_entries,
)
from tracker.status import Channel, Reason, Status, SuppressionReason
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from tracker.store.schema.messages import messages

EMAIL, SMS = Channel.EMAIL, Channel.SMS

PEOPLE = """\
customer_id,email,mobile
ana,ana@shop.example,+447700900001
bo,Bo@BÜCHER.example,+447700900002
cy,cy@shop.example,+447700900003
dee,bounce@simulator.example,+61491570156
eve,nobody,
"""

KEEP = {"name": "Acme", "keep": True, "hard_bounce_limit": 1}
BOUNCING: Mapping[str, Any] = {"gateways": {"email": {"hard_bounce": 1.0}}}

Run = Callable[..., tuple[RunResult, dict[str, str]]]


@pytest.fixture
def run(database: Database, tmp_path: Path) -> Run:
    """Return a function that runs a campaign, and returns its result and each one's outcome."""

    def run(
        channel: Channel = EMAIL, people: str | int = PEOPLE, **tables: Any
    ) -> tuple[RunResult, dict[str, str]]:
        audience: str | int = people
        if isinstance(people, str):
            (tmp_path / "people.csv").write_text(people, encoding="utf-8")
            audience = "people.csv"
        campaign = build_campaign(channel=channel, audience=audience)
        tables = {"organization": KEEP} | tables
        scenario = build_scenario(campaign, path=tmp_path / "test.toml", **tables)
        result = run_scenario(database, scenario, tmp_path)
        return result, read_outcomes(database, result)

    return run


def read_outcomes(database: Database, result: RunResult) -> dict[str, str]:
    [run_campaign] = result.run.campaigns
    query = (
        sa.select(customers.c.customer_id, messages.c.status, messages.c.reason)
        .join(messages, messages.c.number == customers.c.number)
        .where(
            customers.c.audience_id == run_campaign.campaign.audience_id,
            messages.c.campaign_id == run_campaign.campaign.id,
        )
    )
    with database.read() as connection:
        return {
            customer: Reason(reason).slug if reason else Status(status).slug
            for customer, status, reason in connection.execute(query)
        }


def list_people(
    database: Database, *entries: tuple[str, SuppressionReason], **changes: Any
) -> None:
    now = SystemClock().now()
    listed = [
        replace(
            Suppression(Recipient(EMAIL if "@" in key else SMS, key), reason, 1, "cli", now, None),
            **changes,
        )
        for key, reason in entries
    ]
    with database.write() as connection:
        add_entries(database, connection, "Acme", listed, now)


def read_list(database: Database) -> list[tuple[str, str, int]]:
    with database.read() as connection:
        return [
            (entry.recipient.address, entry.reason.value, entry.count)
            for entry in read_entries(connection, Selection(organization="Acme"))
        ]


def test_a_hard_bounce_suppresses_in_the_next_run(run: Run, database: Database) -> None:
    first, outcomes = run(**BOUNCING)
    assert_passed(first)
    assert set(outcomes.values()) == {"hard_bounced"}
    assert first.as_json()["suppressions"]["Acme"]["entries"] == 0
    assert read_list(database) == [
        ("ana@shop.example", "hard_bounced", 1),
        ("bo@xn--bcher-kva.example", "hard_bounced", 1),
        ("cy@shop.example", "hard_bounced", 1),
    ]
    second, outcomes = run(people=PEOPLE.replace("ana,ana@", "x1,ANA@"))
    assert_passed(second)
    assert outcomes["x1"] == outcomes["bo"] == outcomes["cy"] == "bounced_repeatedly"
    assert outcomes["dee"] == outcomes["eve"] == "hard_bounced", "they are never compared"
    assert second.as_json()["suppressions"]["Acme"]["entries"] == 3
    _, outcomes = run(SMS)
    assert outcomes["ana"] == "delivered", "an email address says nothing of a number"


def test_an_unsubscription_suppresses_in_the_next_run(run: Run) -> None:
    first, outcomes = run(engagement={"email": {"open": 1.0, "click": 1.0, "unsubscribe": 1.0}})
    assert_passed(first)
    assert outcomes["ana"] == "delivered"
    second, outcomes = run()
    assert_passed(second)
    assert [outcomes[name] for name in ("ana", "bo", "cy")] == ["unsubscribed"] * 3


def test_what_the_file_says_stays_for_the_next_run(run: Run) -> None:
    header, rows = PEOPLE.split("\n", 1)
    flagged = rows.replace("900001", "900001,sms,no,0").replace("900002", "900002,,yes,0")
    flagged = flagged.replace("900003", "900003,,no,1")
    result, before = run(SMS, people=f"{header},unsubscribed,ndnc,hard_bounces\n{flagged}")
    assert_passed(result)
    result, after = run(SMS)
    assert_passed(result)
    assert before == after
    assert [after[name] for name in ("ana", "bo", "cy")] == [
        "unsubscribed", "ndnc", "bounced_repeatedly"
    ]  # fmt: skip


@pytest.mark.parametrize("channel", Channel)
def test_each_reason_suppresses_as_predicted(
    run: Run, database: Database, channel: Channel
) -> None:
    listed = SuppressionReason
    list_people(
        database,
        ("ana@shop.example", listed.SPAM),
        ("+447700900001", listed.NDNC),
        ("bo@xn--bcher-kva.example", listed.SOFT_BOUNCED),
        ("+447700900002", listed.UNSUBSCRIBED),
        ("+447700900002", listed.NDNC),
        ("cy@shop.example", listed.HARD_BOUNCED),
        ("+447700900003", listed.HARD_BOUNCED),
    )
    organization = KEEP | {"soft_bounce_limit": 1, "hard_bounce_limit": 2}
    result, outcomes = run(channel, organization=organization)
    assert_passed(result)
    by_channel = {
        EMAIL: ["unsubscribed", "bounced_repeatedly", "delivered"],
        SMS: ["ndnc", "unsubscribed", "delivered"],
    }
    assert [outcomes[name] for name in ("ana", "bo", "cy")] == by_channel[channel]


def test_the_same_seed_and_the_same_list_give_the_same_outcomes(
    run: Run, database: Database
) -> None:
    half = {"gateways": {"email": {"hard_bounce": 0.5}}, "seed": 3}
    people = "customer_id,email\n" + "".join(f"{n},c{n}@shop.example\n" for n in range(40))
    before = [run(people=people, **half), run(people=people, **half)]
    for result, _ in before:
        assert_passed(result)
    digests = [result.suppression_lists["Acme"].digest for result, _ in before]
    assert digests[0] != digests[1]
    assert before[0][1] != before[1][1]
    with database.write() as connection:
        remove_entries(connection, Selection(organization="Acme"))
    again, outcomes = run(people=people, **half)
    assert again.suppression_lists["Acme"].digest == digests[0]
    assert outcomes == before[0][1]


def test_a_run_is_judged_by_the_list_with_which_it_began(run: Run, database: Database) -> None:
    list_people(database, ("ana@shop.example", SuppressionReason.UNSUBSCRIBED))
    result, _ = run()
    assert_passed(result)
    with database.write() as connection:
        remove_entries(connection, Selection(organization="Acme"))
    list_people(database, ("cy@shop.example", SuppressionReason.UNSUBSCRIBED))
    with database.read() as connection:
        campaigns = tuple(
            replace(each, imported_audience=load_census(connection, each.campaign.audience_id))
            for each in result.run.campaigns
        )
    judged = judge_recorded_run(database, replace(result.run, campaigns=campaigns))
    assert_passed(judged)
    assert judged.suppression_lists == result.suppression_lists


def test_a_removed_or_expired_entry_no_longer_counts(run: Run, database: Database) -> None:
    reason = SuppressionReason.UNSUBSCRIBED
    start = datetime(2027, 1, 31, 12, tzinfo=UTC)
    list_people(database, ("ana@shop.example", reason), expires_at=from_datetime(start))
    list_people(database, ("bo@xn--bcher-kva.example", reason), expires_at=from_datetime(start) + 1)
    list_people(database, ("cy@shop.example", reason))
    with database.write() as connection:
        removed = Selection(organization="Acme", recipients=[Recipient(EMAIL, "cy@shop.example")])
        assert remove_entries(connection, removed) == 1
    result, outcomes = run(clock={"start": start})
    assert_passed(result)
    assert outcomes["ana"] == outcomes["cy"] == "delivered"
    assert outcomes["bo"] == "unsubscribed"


@pytest.mark.parametrize(
    "reason", [SuppressionReason.SPAM, SuppressionReason.NDNC, SuppressionReason.HARD_BOUNCED]
)
def test_a_list_that_is_not_applied_differs_from_the_prediction(
    run: Run, database: Database, monkeypatch: pytest.MonkeyPatch, reason: SuppressionReason
) -> None:
    monkeypatch.setattr(kept_lists, "apply_copy", lambda *_: None)
    list_people(database, ("+447700900001", reason), count=9)
    result, _ = run(SMS)
    assert result.prediction_checks[0].differences
    outcome = RunOutcome(result=result, page=None, archive_error=None)
    assert choose_exit_code(outcome) == 3


def test_without_keep_a_run_is_isolated_and_says_so(run: Run, database: Database) -> None:
    list_people(database, ("ana@shop.example", SuppressionReason.UNSUBSCRIBED))
    before = read_list(database)
    result, outcomes = run(organization={"name": "Acme"}, **BOUNCING)
    assert_passed(result)
    assert outcomes["ana"] == "hard_bounced"
    assert read_list(database) == before
    assert result.as_json()["suppressions"] is None
    assert any(note.startswith("Isolated: the run takes nothing") for note in list_notes(result))


def test_an_isolated_organization_is_named_beside_one_that_keeps_its_list(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE, encoding="utf-8")
    scenario = build_scenario(
        build_campaign(audience="people.csv"),
        build_campaign(name="autumn", audience="people.csv", organization="guest"),
        path=tmp_path / "test.toml",
        organization=KEEP,
        organizations={"guest": {"name": "Beta"}},
    )
    notes = list(list_notes(run_scenario(database, scenario, tmp_path)))
    assert any(note.startswith("Suppression list of Acme") for note in notes)
    assert any(note.startswith("Isolated:") and "runs of Beta," in note for note in notes)


def test_another_organization_has_another_list(run: Run, database: Database) -> None:
    list_people(database, ("ana@shop.example", SuppressionReason.UNSUBSCRIBED))
    result, outcomes = run(organization=KEEP | {"name": "Beta"})
    assert_passed(result)
    assert outcomes["ana"] == "delivered"


def test_nothing_is_kept_of_generated_customers(run: Run, database: Database) -> None:
    result, _ = run(people=5, **BOUNCING)
    assert_passed(result)
    assert read_list(database) == []
    assert any(re.match("Nothing is kept of campaign spring", note) for note in list_notes(result))


def test_a_long_name_cannot_be_kept() -> None:
    with pytest.raises(ValueError, match="at most 200"):
        build_scenario(build_campaign(), organization={"name": "x" * 201, "keep": True})
