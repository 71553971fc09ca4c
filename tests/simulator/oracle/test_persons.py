"""One person is one person: the same address under several customer ids, in one or more files."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from simulator.results.result import RunResult
from simulator.scenario.sections import CampaignSection
from tests.support.inline_runs import assert_passed, build_campaign, build_scenario, run_scenario
from tracker.record.customers import changes
from tracker.status import Reason, Status
from tracker.store.database import Database
from tracker.store.schema.catalog import campaigns, customers
from tracker.store.schema.messages import messages
from workers.checks.base import all_checks
from workers.rules.as_of import Rules
from workers.rules.rejudge import compare_rules

Outcomes = dict[str, str]
"""By customer id, the reason or the status of a message."""


def write_people(folder: Path, name: str, *rows: str) -> str:
    header = "customer_id,email,mobile,unsubscribed,ndnc,hard_bounces,soft_bounces\n"
    lines = (f"{row}{',' * (6 - row.count(','))}\n" for row in rows)
    (folder / name).write_text(header + "".join(lines), encoding="utf-8")
    return name


def read_outcomes(database: Database, name: str) -> Outcomes:
    query = (
        sa.select(customers.c.customer_id, messages.c.status, messages.c.reason)
        .join(campaigns, campaigns.c.audience_id == customers.c.audience_id)
        .join(
            messages,
            (messages.c.campaign_id == campaigns.c.id) & (messages.c.number == customers.c.number),
        )
        .where(campaigns.c.name == name)
        .order_by(customers.c.number)
    )
    with database.read() as connection:
        return {
            customer: Reason(reason).slug if reason else Status(status).slug
            for customer, status, reason in connection.execute(query)
        }


Run = Callable[..., RunResult]


@pytest.fixture
def run(database: Database, tmp_path: Path) -> Run:
    def run(
        *planned: CampaignSection, concurrent: tuple[str, ...] = (), **tables: Any
    ) -> RunResult:
        scenario = build_scenario(*planned, path=tmp_path / "test.toml", **tables)
        return run_scenario(database, scenario, tmp_path, concurrent=concurrent)

    return run


def test_facts_of_a_file_hold_for_the_address_and_its_first_row_gets_the_message(
    database: Database, tmp_path: Path, run: Run
) -> None:
    people = write_people(
        tmp_path,
        "people.csv",
        "A1,ana@shop.example,,email",
        "A2,ANA@Shop.Example",
        "B1,bo@shop.example,,,,2",
        "B2,Bo@shop.example",
        "C1,cleo@bücher.example",
        "C2,Cleo@xn--bcher-kva.example",
        "D1,dan@shop.example",
        "D2,dan+news@shop.example",
        "E1,bounce@simulator.example",
        "E2,bounce@simulator.example",
        "F1,fay@@shop.example",
        "F2,fay@@shop.example",
        "G1,",
        "G2,",
    )
    assert_passed(run(build_campaign(audience=people)))
    assert read_outcomes(database, "spring") == {
        "A1": "unsubscribed",
        "A2": "unsubscribed",
        "B1": "bounced_repeatedly",
        "B2": "bounced_repeatedly",
        "C1": "delivered",
        "C2": "duplicate_recipient",
        "D1": "delivered",
        "D2": "delivered",
        "E1": "hard_bounced",
        "E2": "hard_bounced",
        "F1": "hard_bounced",
        "F2": "hard_bounced",
        "G1": "email_missing",
        "G2": "email_missing",
    }


def test_numbers_are_compared_for_sms(database: Database, tmp_path: Path, run: Run) -> None:
    people = write_people(
        tmp_path,
        "people.csv",
        "A1,ana@shop.example,+44 7700 900001,,yes",
        "A2,other@shop.example,+447700900001",
        "B1,same@shop.example,+447700900002",
        "B2,same@shop.example,+447700900003,email",
        "C1,,+447700900004,sms",
        "C2,,00447700900004",
        "D1,,+447700900005",
        "D2,,+44 (0)7700 900005",
        "E1,,+61491570156",
        "E2,,+61491570156",
    )
    assert_passed(run(build_campaign(channel="sms", audience=people)))
    assert read_outcomes(database, "spring") == {
        "A1": "ndnc",
        "A2": "ndnc",
        "B1": "delivered",
        "B2": "delivered",
        "C1": "unsubscribed",
        "C2": "unsubscribed",
        "D1": "delivered",
        "D2": "duplicate_recipient",
        "E1": "hard_bounced",
        "E2": "hard_bounced",
    }


def test_each_row_gets_the_message_where_duplicates_are_sent(
    database: Database, tmp_path: Path, run: Run
) -> None:
    people = write_people(tmp_path, "people.csv", "A1,ana@shop.example", "A2,ana@shop.example")
    audience = {"file": people, "duplicates": "send"}
    assert_passed(run(build_campaign(audience=audience)))
    assert read_outcomes(database, "spring") == {"A1": "delivered", "A2": "delivered"}


def test_customers_of_other_organizations_and_generated_ones_are_others(
    database: Database, tmp_path: Path, run: Run
) -> None:
    rows = ["A1,customer0@example.com,+447700900000,both", "A2,ana@shop.example"]
    people = write_people(tmp_path, "people.csv", *rows)
    others = write_people(tmp_path, "others.csv", "B1,customer0@example.com", "B2,ana@shop.example")
    result = run(
        build_campaign("file", audience=people),
        build_campaign("generated", audience=2),
        build_campaign("other", audience=others, organization="other"),
        organizations={"other": {"name": "Other"}},
    )
    assert_passed(result)
    assert read_outcomes(database, "file") == {"A1": "unsubscribed", "A2": "delivered"}
    assert read_outcomes(database, "generated") == {"c0": "delivered", "c1": "delivered"}
    assert read_outcomes(database, "other") == {"B1": "delivered", "B2": "delivered"}


ON_SQLITE = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

COUNT = 200
"""Persons in both of two files."""

GATEWAYS = {"email": {"hard_bounce": 0.2, "soft_bounce": 0.2, "attempts": 1}}
ENGAGEMENT = {"email": {"open": 1.0, "click": 0.8, "unsubscribe": 0.4, "spam": 0.2}}
STRICT = {"hard_bounce_limit": 1, "soft_bounce_limit": 2}


def write_two_files(folder: Path) -> tuple[str, str]:
    """Write two files: the second has the persons of the first in another order, and others."""
    first = [f"a{n},Person{n}@shop.example" for n in range(COUNT)]
    second = [f"b{n},person{COUNT - n}@SHOP.example" for n in range(COUNT + 5)]
    twice = [f"a-again{n},person{n}@shop.example" for n in range(0, COUNT, 4)]
    return (
        write_people(folder, "first.csv", *first, *twice),
        write_people(folder, "second.csv", *second),
    )


def run_two_campaigns(folder: Path, run: Run) -> RunResult:
    """Run a campaign to each of two files with the same persons, one after the other."""
    first, second = write_two_files(folder)
    return run(
        build_campaign("spring", audience=first),
        build_campaign("summer", audience=second, after="spring"),
        gateways=GATEWAYS,
        engagement=ENGAGEMENT,
        organization=STRICT,
    )


def test_what_happens_in_one_audience_holds_in_others_that_come_after(
    database: Database, tmp_path: Path, run: Run
) -> None:
    first, second = write_two_files(tmp_path)
    result = run(
        build_campaign("spring", audience=first),
        build_campaign("summer", audience=second, after="spring"),
        build_campaign("autumn", audience=first, after="summer"),
        gateways=GATEWAYS,
        engagement=ENGAGEMENT,
        organization=STRICT | {"message_limit": {"count": 2, "days": 1}},
    )
    assert_passed(result)
    assert [check.uncertain for check in result.prediction_checks] == [0, 0, 0]
    spring = read_outcomes(database, "spring")
    summer = Counter(read_outcomes(database, "summer").values())
    assert Counter(spring.values())["duplicate_recipient"] == COUNT / 4
    hard = sum(status == "hard_bounced" for status in spring.values())
    assert summer["bounced_repeatedly"] >= hard > 10
    assert summer["unsubscribed"] > 10
    assert "duplicate_recipient" not in summer
    for report in result.reports:
        rules = Rules(campaign=report.campaign, checks=all_checks())
        diff = compare_rules(database, rules, rules)
        assert (diff.changes, diff.not_compared) == ({}, {}), (
            "as of then, the verdicts are the same"
        )


@pytest.mark.parametrize("limit", [1, 2])
def test_a_message_limit_counts_messages_to_the_address(
    database: Database, tmp_path: Path, run: Run, limit: int
) -> None:
    people = write_people(tmp_path, "people.csv", "A1,ana@shop.example", "B1,bo@shop.example")
    others = write_people(tmp_path, "others.csv", "A2,Ana@shop.example", "C1,cleo@shop.example")
    result = run(
        build_campaign("spring", audience=people),
        build_campaign("summer", audience=people, after="spring"),
        build_campaign("autumn", audience=others, after="summer"),
        organization={"message_limit": {"count": limit, "days": 1}},
    )
    assert_passed(result)
    first = "delivered" if limit == 2 else "message_limit"
    assert read_outcomes(database, "summer") == {"A1": first, "B1": first}
    assert read_outcomes(database, "autumn") == {"A2": "message_limit", "C1": "delivered"}


@ON_SQLITE
@pytest.mark.parametrize("duplicates", ["skip", "send"])
@pytest.mark.parametrize("order", [("spring", "summer"), ("summer", "spring"), ()])
def test_concurrent_campaigns_have_possible_reasons(
    database: Database, tmp_path: Path, run: Run, duplicates: str, order: tuple[str, ...]
) -> None:
    first, second = write_two_files(tmp_path)
    result = run(
        build_campaign("spring", audience={"file": first, "duplicates": duplicates}),
        build_campaign("summer", audience={"file": second, "duplicates": duplicates}),
        concurrent=order,
        gateways=GATEWAYS,
        engagement=ENGAGEMENT,
        organization=STRICT | {"message_limit": {"count": 1, "days": 1}},
    )
    assert_passed(result)


@ON_SQLITE
def test_two_chains_of_campaigns_with_shared_persons_are_predicted(
    database: Database, tmp_path: Path, run: Run
) -> None:
    first, second = write_two_files(tmp_path)
    result = run(
        build_campaign("spring", audience=first),
        build_campaign("sale", audience=second),
        build_campaign("summer", audience=first, after="spring"),
        build_campaign("rest", audience=second, after="sale"),
        gateways=GATEWAYS,
        organization=STRICT,
    )
    assert_passed(result)


@ON_SQLITE
def test_a_bounce_that_isn_t_spread_differs_from_the_prediction(
    database: Database, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "read_other_customers", lambda *_: {})
    result = run_two_campaigns(tmp_path, run)
    assert not result.has_passed
    assert not result.prediction_checks[0].differences
    assert result.prediction_checks[1].differences


@ON_SQLITE
@pytest.mark.parametrize("seed", range(4))
def test_any_campaigns_to_any_files_are_predicted(
    database: Database, tmp_path: Path, seed: int
) -> None:
    draw = Random(seed)  # noqa: S311
    persons = [f"p{number}@shop.example" for number in range(30)]
    mobiles = [f"+4477009{number:05}" for number in range(30)]
    files = []
    for name in "abc":
        rows = [
            f"{name}{number},{draw.choice([*persons, ''])},{draw.choice([*mobiles, ''])},"
            f"{draw.choice(['', '', '', '', 'email', 'both'])},{draw.choice(['', '', '', 'yes'])},"
            f"{draw.choice(['', '', '1'])},{draw.choice(['', '', '1'])}"
            for number in range(draw.randrange(5, 60))
        ]
        files.append(write_people(tmp_path, f"{name}.csv", *rows))
    audiences = [{"file": file, "duplicates": draw.choice(["skip", "send"])} for file in files]
    campaigns: list[CampaignSection] = []
    for number in range(draw.randrange(2, 6)):
        earlier = [campaign.name for campaign in campaigns]
        campaigns.append(
            build_campaign(
                f"c{number}",
                channel=draw.choice(["email", "email", "sms"]),
                audience=draw.choice(audiences),
                after=draw.choice([*earlier, *earlier, None]),
            )
        )
    limit = draw.choice([None, {"count": draw.randrange(1, 3), "days": 1}])
    scenario = build_scenario(
        *campaigns,
        path=tmp_path / "test.toml",
        seed=seed,
        gateways=dict.fromkeys(("email", "sms"), GATEWAYS["email"]),
        engagement=ENGAGEMENT,
        organization=STRICT | {"message_limit": limit},
    )
    assert_passed(run_scenario(database, scenario, tmp_path))


@ON_SQLITE
def test_predictions_of_persons_do_not_depend_on_chunks(
    database: Database, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulator.oracle.oracle.CHUNK_MESSAGES", 31)
    monkeypatch.setattr("simulator.oracle.persons.CHUNK_CUSTOMERS", 17)
    assert_passed(run_two_campaigns(tmp_path, run))
