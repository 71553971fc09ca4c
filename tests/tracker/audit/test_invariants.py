"""Invariants: each is violated on purpose, and is then reported with the wrong rows."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    connect_interleaved,
    enqueue_batches,
    make_busy_batch,
    make_campaign,
    move,
)
from tests.support.tampering import without_constraints
from tracker.audit.invariants import (
    INVARIANTS,
    MAX_EXAMPLES,
    REPORT_BALANCES,
    InvariantResult,
    check_invariants,
)
from tracker.audit.messages import MAX_CLOCK_SKEW_MICROSECONDS
from tracker.clock import from_seconds
from tracker.output.report_text import format_invariant_result
from tracker.record.catalog import Campaign
from tracker.record.journal import enqueue_batch
from tracker.store.database import Database
from tracker.store.schema.catalog import audiences, batches, customers, organizations, runs
from tracker.store.schema.messages import bounce_tallies, messages, tallies, transitions
from tracker.store.schema.work import deferrals, steps

COMPARED_COLUMNS = {
    "batches_follow": ("batch", "first", "expected_first"),
    "audience_covered": ("customers", "messages"),
    "audience_size": ("size", "customers"),
    "customers": ("number",),
    "one_reason": ("number", "status", "reason"),
    "tallies": ("status", "reason", "attempt", "messages", "tallied"),
    "bounce_tallies": ("status", "messages", "by_cause"),
    "deferrals": ("deferred", "deferrals", "queued"),
    "unconfirmed": ("unconfirmed", "recorded"),
    "last_transition": ("number", "status", "attempt", "reason", "recorded_reason"),
    "legal_history": ("number", "previous", "status", "attempt"),
    "flow": ("status", "attempt", "entered", "left", "there"),
    "steps": ("transitions", "moved"),
    "credit": ("credit_used", "chargeable"),
    "report_balances": ("audience",),
}
"""Columns of the wrong rows that the tests compare, by invariant."""

DELETED_WITH_MESSAGES = (transitions, tallies, bounce_tallies, messages, steps, batches)

Wrong = dict[str, list[tuple[int | None, ...] | None]]


def check(database: Database, *campaigns: Campaign) -> list[InvariantResult]:
    with database.read() as connection:
        return check_invariants(connection, campaigns, INVARIANTS)


def wrong_rows(results: Sequence[InvariantResult]) -> Wrong:
    """Return the reported rows of each violated invariant."""
    return {
        result.invariant.name: [
            None
            if "unreadable" in example
            else tuple(example[key] for key in COMPARED_COLUMNS[result.invariant.name])
            for example in result.examples
        ]
        for result in results
        if not result.is_satisfied
    }


LAST_STEP = sa.select(sa.func.max(steps.c.id)).scalar_subquery()
STEP_WITH_ONE_MORE = sa.update(steps).where(steps.c.id == LAST_STEP).values(moved=steps.c.moved + 1)
"""The last step records one more transition: a forgery that thinks of the steps."""


def insert_transition(
    number: int, previous: int | None, status: int, attempt: int, reason: int = 0
) -> Any:
    return sa.insert(transitions).values(
        campaign_id=1,
        number=number,
        previous=previous,
        status=status,
        attempt=attempt,
        reason=reason,
        at=sa.select(sa.func.max(transitions.c.at)).scalar_subquery(),
        step_id=LAST_STEP,
    )


def delete_transitions(number: int, **state: int) -> Any:
    of_it = [transitions.c[column] == value for column, value in state.items()]
    return sa.delete(transitions).where(transitions.c.number == number, *of_it)


def delay_entry(number: int, status: int, *, seconds: int) -> Any:
    """Let a message have entered a status later."""
    of_it = (transitions.c.number == number, transitions.c.status == status)
    later = transitions.c.at + sa.literal(from_seconds(seconds), sa.BigInteger)
    return sa.update(transitions).where(*of_it).values(at=later)


FINISHED = sa.update(runs).values(finished_at=1)
LATE_BOUNCE = sa.and_(transitions.c.previous == 6, transitions.c.status == 7)


def insert_deferral(number: int) -> Any:
    row = {"check_name": "quiet_hours", "until": 5, "first_deferred_at": 1}
    return sa.insert(deferrals).values(campaign_id=1, batch=0, number=number, **row)


def update_message(number: int, **values: int) -> Any:
    return sa.update(messages).where(messages.c.number == number).values(**values)


def update_tally(status: int, count: int, reason: int = 0) -> Any:
    chosen = (tallies.c.status == status, tallies.c.reason == reason)
    return sa.update(tallies).where(*chosen).values(messages=count)


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        pytest.param(
            [delete_transitions(6, status=6)],
            {
                "last_transition": [(6, 6, 1, 0, None)],
                "flow": [(3, 1, 12, 10, 1), (6, 1, 4, 1, 4)],
                "steps": [(10, 11)],
            },
            id="a last transition is deleted",
        ),
        pytest.param(
            [delete_transitions(6, status=3)],
            {
                "legal_history": [(6, 3, 6, 1)],
                "flow": [(1, 0, 15, 11, 3), (3, 1, 11, 11, 1)],
                "steps": [(11, 12)],
            },
            id="a transition is deleted from the middle",
        ),
        pytest.param(
            [delete_transitions(0, status=0)],
            {
                "last_transition": [(0, 0, 0, 0, None)],
                "flow": [(0, 0, 21, 20, 2)],
                "steps": [(21, 22)],
            },
            id="a first transition is deleted",
        ),
        pytest.param(
            [insert_transition(0, 0, 2, 0, reason=3), STEP_WITH_ONE_MORE],
            {"flow": [(0, 0, 22, 21, 2), (2, 0, 6, 0, 5)]},
            id="a legal transition is forged, with its step",
        ),
        pytest.param(
            [insert_transition(0, 0, 2, 0, reason=3)],
            {"flow": [(0, 0, 22, 21, 2), (2, 0, 6, 0, 5)], "steps": [(2, 1)]},
            id="a legal transition is forged",
        ),
        pytest.param(
            [insert_transition(0, 3, 6, 1), STEP_WITH_ONE_MORE],
            {
                "legal_history": [(0, 3, 6, 1)],
                "flow": [(3, 1, 12, 12, 1), (6, 1, 6, 1, 4)],
            },
            id="a legal transition is forged from a status that the message never had",
        ),
        pytest.param(
            [insert_transition(6, 6, 4, 1), STEP_WITH_ONE_MORE],
            {
                "legal_history": [(6, 6, 4, 1)],
                "flow": [(4, 1, 5, 2, 2), (6, 1, 5, 2, 4)],
            },
            id="an illegal transition is forged",
        ),
        pytest.param(
            [insert_transition(0, None, 1, 0), STEP_WITH_ONE_MORE],
            {"legal_history": [(0, None, 1, 0)], "flow": [(1, 0, 16, 12, 3)]},
            id="a second first transition is forged",
        ),
        pytest.param(
            [sa.update(transitions).where(transitions.c.reason == 8).values(reason=9)],
            {"last_transition": [(19, 2, 0, 8, 9)]},
            id="a transition has another reason",
        ),
        pytest.param(
            [sa.update(transitions).where(transitions.c.number == 0).values(step_id=999)],
            {"steps": [(21, 22), (1, 0)]},
            id="a transition has no step",
        ),
        pytest.param(
            [STEP_WITH_ONE_MORE], {"steps": [(1, 2)]}, id="a step records one transition more"
        ),
        pytest.param(
            [update_tally(6, 5)],
            {"tallies": [(6, 0, 1, 4, 5)], "report_balances": [(22,)]},
            id="a tally is larger",
        ),
        pytest.param(
            [update_tally(6, 3), update_tally(7, 3)],
            {
                "tallies": [(6, 0, 1, 4, 3), (7, 0, 1, 2, 3)],
                "bounce_tallies": [(7, 3, 2)],
            },
            id="a tally is larger and another smaller",
        ),
        pytest.param(
            [sa.update(bounce_tallies).where(bounce_tallies.c.status == 7).values(messages=1)],
            {"bounce_tallies": [(7, 2, 1)]},
            id="a bounce has no cause",
        ),
        pytest.param(
            [sa.update(batches).values(unconfirmed=1)],
            {"unconfirmed": [(1, 0)]},
            id="an unconfirmed message is forgotten",
        ),
        pytest.param(
            [sa.update(batches).values(unconfirmed_due_at=1)],
            {"unconfirmed": [(0, 0)]},
            id="a batch waits for an unconfirmed message that it doesn't have",
        ),
        pytest.param(
            [sa.update(batches).values(deferred=1)],
            {"deferrals": [(1, 0, 0)]},
            id="a deferred message is forgotten",
        ),
        pytest.param(
            [insert_deferral(6), sa.update(batches).values(deferred=1, deferral_due_at=5)],
            {"deferrals": [(1, 1, 0)]},
            id="a delivered message is deferred",
        ),
        pytest.param(
            [insert_deferral(0), sa.update(batches).values(deferred=1, deferral_due_at=6)],
            {"deferrals": [(1, 1, 1)]},
            id="a batch waits for too long",
        ),
        pytest.param(
            [sa.delete(tallies).where(tallies.c.reason == 8)],
            {"tallies": [(2, 8, 0, 1, 0)], "report_balances": [(22,)]},
            id="a tally is deleted",
        ),
        pytest.param(
            [update_message(0, status=1)],
            {
                "tallies": [(0, 0, 0, 1, 2), (1, 0, 0, 4, 3)],
                "last_transition": [(0, 1, 0, 0, None)],
                "flow": [(0, 0, 22, 20, 1), (1, 0, 15, 12, 4)],
            },
            id="a message is moved without the journal",
        ),
        pytest.param(
            [update_message(6, status=1, attempt=0), update_tally(1, 4), update_tally(6, 3)],
            {"flow": [(1, 0, 15, 12, 4), (6, 1, 5, 1, 3)]},
            id="a message is moved back, with its tallies",
        ),
        pytest.param(
            [update_message(5, attempt=2)],
            {
                "tallies": [(3, 0, 1, 0, 1), (3, 0, 2, 2, 1)],
                "last_transition": [(5, 3, 2, 0, None)],
                "flow": [(3, 1, 12, 11, 0), (3, 2, 2, 1, 2)],
            },
            id="a message is on another attempt",
        ),
        pytest.param(
            [update_message(6, status=7), update_message(10, status=6)],
            {"last_transition": [(6, 7, 1, 0, None), (10, 6, 1, 0, None)]},
            id="two messages are exchanged",
        ),
        pytest.param(
            [update_message(6, reason=3)],
            {
                "one_reason": [(6, 6, 3)],
                "tallies": [(6, 0, 1, 3, 4), (6, 3, 1, 1, 0)],
                "last_transition": [(6, 6, 1, 3, 0)],
            },
            id="a delivered message has a reason",
        ),
        pytest.param(
            [update_message(17, reason=0)],
            {
                "one_reason": [(17, 2, 0)],
                "tallies": [(2, 0, 0, 1, 0), (2, 3, 0, 1, 2)],
                "last_transition": [(17, 2, 0, 0, 3)],
            },
            id="a message that is not sent has no reason",
        ),
        pytest.param(
            [sa.delete(messages).where(messages.c.number == 6)],
            {"tallies": [(6, 0, 1, 3, 4)], "flow": [(6, 1, 5, 1, 3)]},
            id="a message is deleted",
        ),
        pytest.param(
            [
                sa.delete(messages).where(messages.c.number == 0),
                delete_transitions(0),
                update_tally(0, 1),
                sa.update(steps).where(steps.c.step == "enqueue").values(moved=21),
            ],
            {"report_balances": [(22,)]},
            id="a message is deleted with all its traces but one",
        ),
        pytest.param(
            [sa.insert(messages).values(campaign_id=1, number=22, status=0)],
            {
                "customers": [(22,)],
                "last_transition": [(22, 0, 0, 0, None)],
                "flow": [(0, 0, 22, 20, 3)],
            },
            id="a message is forged",
        ),
        pytest.param(
            [
                sa.update(transitions)
                .where(transitions.c.number == 6, transitions.c.status == 3)
                .values(reason=3)
            ],
            {"legal_history": [(6, 1, 3, 1)]},
            id="a transition on the way has a reason",
        ),
        pytest.param(
            [delay_entry(6, 6, seconds=-10)],
            {"legal_history": [(6, 3, 6, 1)]},
            id="a message was delivered before it was accepted",
        ),
        pytest.param(
            [delay_entry(11, 7, seconds=3_000_000_000)],
            {"steps": [(2, 2)]},
            id="a late bounce is in the future",
        ),
        pytest.param(
            [sa.delete(customers).where(customers.c.number == 21)],
            {"audience_size": [(22, 21)], "customers": [(21,)]},
            id="a customer is deleted",
        ),
        pytest.param(
            [
                FINISHED,
                sa.insert(customers).values(audience_id=1, number=22, customer_id="new"),
                sa.update(audiences).values(size=23),
            ],
            {"audience_covered": [(23, 22)]},
            id="a customer of a finished run has no message",
        ),
        pytest.param(
            [
                FINISHED,
                *(sa.delete(table) for table in DELETED_WITH_MESSAGES),
            ],
            {"audience_covered": [(22, 0)]},
            id="all messages of a finished run are deleted",
        ),
        pytest.param(
            [sa.update(tallies).where(tallies.c.status == 6).values(status=99)],
            {
                "tallies": [(6, 0, 1, 4, 0), (99, 0, 1, 0, 4)],
                "report_balances": [None],
            },
            id="a tally has an unknown status",
        ),
        pytest.param(
            [sa.update(transitions).where(transitions.c.reason == 8).values(reason=99)],
            {"last_transition": [(19, 2, 0, 8, 99)]},
            id="a transition has an unknown reason",
        ),
        pytest.param(
            [sa.update(transitions).where(LATE_BOUNCE).values(previous=99)],
            {
                "legal_history": [(11, 99, 7, 1)],
                "flow": [(6, 1, 5, 0, 4), (99, 1, 0, 1, 0)],
            },
            id="a transition comes from an unknown status",
        ),
        pytest.param(
            [sa.update(organizations).values(credit=5, credit_used=14)],
            {"credit": [(14, 15)]},
            id="one message wasn't charged",
        ),
        pytest.param(
            [sa.update(organizations).values(credit_used=14)], {}, id="credit is unlimited"
        ),
        pytest.param(
            [sa.update(batches).values(first=1)],
            {"batches_follow": [(0, 1, 0)], "tallies": [(0, 0, 0, 1, 2)]},
            id="the first batch does not begin at 0",
        ),
        pytest.param(
            [sa.update(batches).values(size=23)],
            {"report_balances": [(22,)]},
            id="the last batch is larger",
        ),
        pytest.param(
            [sa.update(batches).values(size=21)],
            {"tallies": [(2, 18, 0, 0, 1)], "report_balances": [(22,)]},
            id="the last batch is smaller",
        ),
    ],
)
def test_tampering_is_reported_with_the_wrong_rows(
    database: Database, tampering: list[sa.Executable], named: Wrong
) -> None:
    campaign = make_busy_batch(database).campaign
    with without_constraints(database) as connection:
        for statement in tampering:
            connection.execute(statement)
    results = check(database, campaign)
    assert wrong_rows(results) == named
    assert {
        result.invariant.name: result.violation_count
        for result in results
        if result.violation_count
    } == {name: len(rows) for name, rows in named.items()}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        pytest.param({"first": 3}, [(1, 3, 4), (2, 8, 7)], id="overlap"),
        pytest.param({"first": 5}, [(1, 5, 4), (2, 8, 9)], id="gap"),
        pytest.param({"size": 3}, [(2, 8, 7)], id="shorter"),
        pytest.param({"size": 5}, [(2, 8, 9)], id="longer"),
    ],
)
def test_gaps_and_overlaps_of_batches_are_reported(
    database: Database, values: dict[str, int], named: list[tuple[int, ...]]
) -> None:
    campaign = make_campaign(database, Plan(size=12))
    for number in range(3):
        enqueue_batch(database, campaign, batch=number, first=number * 4, size=4, author=AUTHOR)
    assert wrong_rows(check(database, campaign)) == {}
    with database.write() as connection:
        connection.execute(sa.update(batches).where(batches.c.batch == 1).values(**values))
    assert wrong_rows(check(database, campaign))["batches_follow"] == named


def test_results_as_json(database: Database) -> None:
    campaign = make_busy_batch(database).campaign
    with database.write() as connection:
        connection.execute(STEP_WITH_ONE_MORE)
        connection.execute(update_tally(6, 5))
        step_id = connection.scalar(sa.select(LAST_STEP))
    parsed = json.loads(json.dumps([result.as_json() for result in check(database, campaign)]))
    results = {result["invariant"]: result for result in parsed}
    assert results["steps"] == {
        "invariant": "steps",
        "claim": "Every step made as many transitions as it recorded, and none after its end.",
        "holds": False,
        "unknown": None,
        "wrong": 1,
        "examples": [
            {
                "campaign_id": campaign.id,
                "step_id": step_id,
                "transitions": 1,
                "moved": 2,
                "microseconds_too_late": results["steps"]["examples"][0]["microseconds_too_late"],
            }
        ],
    }
    assert results["steps"]["examples"][0]["microseconds_too_late"] <= 0
    assert results["tallies"]["examples"][0]["tallied"] == 5
    assert (results["flow"]["holds"], results["flow"]["examples"]) == (True, [])


def read_unknown(results: Sequence[InvariantResult]) -> dict[str, str | None]:
    assert all(result.as_json()["holds"] is None for result in results if result.unknown)
    return {result.invariant.name: result.unknown for result in results if result.unknown}


def test_what_holds_for_finished_runs_only_is_unknown_before(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=60))
    queue = enqueue_batches(database, campaign, size=5)
    next(queue)
    running = check(database, campaign)
    assert wrong_rows(running) == {}
    unknown = f"run {campaign.run_id} is running"
    assert read_unknown(running) == {"audience_covered": unknown}
    [lines] = [format_invariant_result(result) for result in running if result.unknown]
    assert lines[0].startswith("? audience_covered")
    assert lines[1].strip() == f"not known: {unknown}"
    with database.write() as connection:
        connection.execute(FINISHED)
    finished = check(database, campaign)
    assert wrong_rows(finished) == {"audience_covered": [(60, 5)]}
    assert read_unknown(finished) == {}


def test_all_wrong_rows_are_counted_and_five_are_reported(database: Database) -> None:
    campaign = make_busy_batch(database).campaign
    with database.write() as connection:
        connection.execute(sa.delete(transitions).where(transitions.c.status == 0))
    results = {result.invariant.name: result for result in check(database, campaign)}
    assert MAX_EXAMPLES == 5
    assert results["legal_history"].violation_count == 20, (
        "all except the two that are still queued"
    )
    assert [row["number"] for row in results["legal_history"].examples] == [2, 3, 4, 5, 6]
    assert [row["number"] for row in results["last_transition"].examples] == [0, 1]
    assert results["last_transition"].violation_count == 2


def test_sound_database_satisfies_every_invariant(database: Database) -> None:
    busy = make_busy_batch(database).campaign
    empty = make_campaign(database, Plan(name="empty"))
    batched = make_campaign(database, Plan(name="batched", size=7))
    for number, (first, size) in enumerate([(0, 3), (3, 3), (6, 1)]):
        batch = enqueue_batch(
            database, batched, batch=number, first=first, size=size, author=AUTHOR
        )
        move(database, batch, [first], READY)
    results = check(database, busy, empty, batched)
    assert [result.invariant for result in results] == [*INVARIANTS, REPORT_BALANCES]
    assert wrong_rows(results) == {}
    assert all(result.is_satisfied and result.examples == () for result in results)


def test_concurrent_writes_violate_nothing(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=50))
    work = enqueue_batches(database, campaign)
    next(work)
    with connect_interleaved(database, work) as reader, reader.read() as connection:
        results = check_invariants(connection, [campaign], INVARIANTS)
    assert wrong_rows(results) == {}
    assert next(work).batch > len(INVARIANTS), "a batch was written after each query"


def test_small_clock_skew_is_tolerated(database: Database) -> None:
    campaign = make_busy_batch(database).campaign
    queued = sa.update(transitions).where(transitions.c.status == 0)
    with database.write() as connection:
        connection.execute(queued.values(at=transitions.c.at + MAX_CLOCK_SKEW_MICROSECONDS // 2))
    assert wrong_rows(check(database, campaign)) == {}
    with database.write() as connection:
        connection.execute(sa.update(runs).values(speed=60))
        connection.execute(queued.values(at=transitions.c.at + 30 * MAX_CLOCK_SKEW_MICROSECONDS))
    assert wrong_rows(check(database, campaign)) == {}, "an hour of the run is a minute"


def test_only_the_given_campaigns_are_checked(database: Database) -> None:
    tampered = make_busy_batch(database).campaign
    sound = make_busy_batch(database, Plan(name="summer", size=22)).campaign
    with database.write() as connection:
        connection.execute(update_tally(0, 9).where(tallies.c.campaign_id == tampered.id))
        connection.execute(delete_transitions(0).where(transitions.c.campaign_id == tampered.id))
    assert wrong_rows(check(database, sound)) == {}
    both = check(database, sound, tampered)
    assert {row["campaign_id"] for finding in both for row in finding.examples} == {tampered.id}
    assert not all(result.is_satisfied for result in both)
    assert wrong_rows(check(database)) == {}


def test_every_invariant_is_violated_by_a_test() -> None:
    of_engagement = {
        "engagement_tallies",
        "engagement_days",
        "engaged_then_bounced",
        "implied_engagement",
    }
    names = [invariant.name for invariant in (*INVARIANTS, REPORT_BALANCES)]
    assert sorted(names) == sorted({*COMPARED_COLUMNS, *of_engagement}), (
        "the latter in test_miscounts"
    )
    assert all(invariant.claim.endswith(".") for invariant in INVARIANTS)
