"""Credit and message limits are exact under concurrent hand-overs."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import pytest

from tests.support.factory import (
    AUTHOR,
    READY,
    OvertakenDatabase,
    Plan,
    find_violations,
    make_batch,
    make_campaign,
    make_sibling,
    move,
    not_sent_for,
    read_credit,
    read_states,
    run_concurrently,
    step_context,
)
from tracker.record import allowance
from tracker.record.catalog import Batch, Campaign
from tracker.record.journal import QUEUED_STATE, Move, enqueue_batch, open_entry
from tracker.status import Channel, Reason, Step
from tracker.store.database import Database
from workers.checks.base import checks_of
from workers.services.base import SqlServices
from workers.steps import before_gateway

OUT_OF_CREDIT = not_sent_for(Reason.OUT_OF_CREDIT)
LIMITED = not_sent_for(Reason.MESSAGE_LIMIT)
UNSUBSCRIBED = not_sent_for(Reason.UNSUBSCRIBED)

STEP_FAILED = not_sent_for(Reason.STEP_FAILED)

DAY = 86_400_000_000
"""Microseconds."""


def check(database: Database, *batches: Batch) -> None:
    """Run the check steps before dispatch."""
    services = SqlServices("", database)
    for batch in batches:
        for step in (Step.SUPPRESS, Step.VALIDATE):
            before_gateway.judge_batch(
                step_context(database, batch), step, checks_of(step), services
            )


def dispatch(database: Database, batch: Batch) -> None:
    before_gateway.dispatch(step_context(database, batch), SqlServices("", database))


def counted(database: Database, batches: Sequence[Batch]) -> Counter[object]:
    return Counter(state for batch in batches for state in read_states(database, batch).values())


def batches_of(database: Database, *campaigns: Campaign, size: int) -> list[Batch]:
    return [
        enqueue_batch(database, campaign, batch=0, first=0, size=size, author=AUTHOR)
        for campaign in campaigns
    ]


@pytest.mark.parametrize("credit", [0, 1, 7, 11, 19, 20, 30])
def test_batches_that_are_dispatched_at_once_share_the_credit(
    database: Database, credit: int
) -> None:
    campaign = make_campaign(database, Plan(size=20, credit=credit))
    batches = [
        enqueue_batch(database, campaign, batch=place, first=10 * place, size=10, author=AUTHOR)
        for place in range(2)
    ]
    check(database, *batches)
    run_concurrently(*(partial(dispatch, database, batch) for batch in batches * 2))
    counts = counted(database, batches)
    sent = min(credit, 20)
    assert (counts[READY], counts[OUT_OF_CREDIT]) == (sent, 20 - sent)
    assert read_credit(database, campaign) == credit - sent


@pytest.mark.parametrize(
    ("credit", "limit", "sent", "limited"),
    [
        pytest.param(13, None, 13, 0, id="credit alone"),
        pytest.param(None, 1, 10, 10, id="one each"),
        pytest.param(None, 2, 20, 0, id="as many as there are"),
        pytest.param(4, 2, 4, 0, id="credit is shorter"),
        pytest.param(10, 1, 10, 10, id="limit before credit"),
    ],
)
@pytest.mark.parametrize("channel", Channel)
def test_campaigns_that_are_dispatched_at_once_share_credit_and_limit(
    database: Database,
    channel: Channel,
    credit: int | None,
    limit: int | None,
    sent: int,
    limited: int,
) -> None:
    plan = Plan(size=10, credit=credit, message_limit=limit)
    first = make_campaign(database, plan)
    second = make_sibling(database, first, "second", channel)
    batches = batches_of(database, first, second, size=10)
    check(database, *batches)
    run_concurrently(*(partial(dispatch, database, batch) for batch in batches * 2))
    counts = counted(database, batches)
    assert counts == Counter({READY: sent, LIMITED: limited, OUT_OF_CREDIT: 20 - sent - limited}), (
        "no message lacks credit that is left"
    )
    assert read_credit(database, first) == (None if credit is None else credit - sent)
    if limit == 1:
        one, two = (read_states(database, batch) for batch in batches)
        assert all({one[number], two[number]} == {READY, LIMITED} for number in one)
    assert find_violations(database, first, second) == []


def test_credit_and_limit_of_one_organization_are_no_other_s(database: Database) -> None:
    plan = Plan(size=3, credit=2, message_limit=1)
    campaigns = make_campaign(database, plan), make_campaign(database, plan)
    batches = batches_of(database, *campaigns, size=3)
    check(database, *batches)
    run_concurrently(*(partial(dispatch, database, batch) for batch in batches))
    for batch in batches:
        assert counted(database, [batch]) == Counter({READY: 2, OUT_OF_CREDIT: 1})


def test_credit_for_messages_that_another_moved_is_given_back(database: Database) -> None:
    batch = make_batch(database, Plan(size=10, credit=15))
    check(database, batch)
    overtaken = OvertakenDatabase(database.engine, [lambda: dispatch(database, batch)])
    dispatch(overtaken, batch)
    assert set(read_states(database, batch).values()) == {READY}
    assert read_credit(database, batch.campaign) == 5


def test_no_message_lacks_credit_that_is_left(database: Database) -> None:
    """Five messages are stopped during dispatch; the credit covers the other five."""
    batch = make_batch(database, Plan(size=10, credit=5))
    check(database, batch)
    overtaken = OvertakenDatabase(
        database.engine, [lambda: move(database, batch, range(5), UNSUBSCRIBED)]
    )
    dispatch(overtaken, batch)
    assert Counter(read_states(database, batch).values()) == {UNSUBSCRIBED: 5, READY: 5}
    assert read_credit(database, batch.campaign) == 0


@pytest.mark.parametrize(
    ("ago", "counts"),
    [
        pytest.param(DAY - 60_000_000, {0: 1, 2: 1}, id="within the period"),
        pytest.param(DAY + 60_000_000, {}, id="before it"),
    ],
)
def test_what_was_handed_over_within_the_period_counts(
    database: Database, ago: int, counts: dict[int, int]
) -> None:
    plan = Plan(size=4, message_limit=1)
    first = make_campaign(database, plan)
    second, third = (make_sibling(database, first, name) for name in ("second", "third"))
    [batch, own, _] = batches_of(database, first, second, third, size=4)
    at = first.clock.now() - ago
    with open_entry(database, batch, Step.DISPATCH, AUTHOR, started_at=at) as written:
        written.move(Move(numbers=[0, 2], source=QUEUED_STATE, target=READY, at=at))
    with open_entry(database, batch, Step.DISPATCH, AUTHOR, started_at=at) as written:
        written.move(Move(numbers=[3], source=QUEUED_STATE, target=READY, at=at))
        written.move(Move(numbers=[3], source=READY, target=STEP_FAILED, at=at))
    move(database, own, [1], READY)  # of the campaign itself: a customer has one message of it
    now = first.clock.now()
    with database.read() as connection:
        recent = partial(allowance.count_recent_messages, connection, database)
        assert recent(second, range(4), now) == counts
        assert recent(third, range(4), now) == {**counts, 1: 1}
        assert recent(second, [1, 3], now) == {}
