"""Finding messages a page at a time: what comes out is what a look at every message finds."""

from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
import sqlalchemy as sa

from tests.support.factory import (
    AUTHOR,
    Plan,
    make_busy_batch,
    make_campaign,
    move,
    states,
    stopped,
)
from tracker.queries import messages
from tracker.queries.messages import MessageFilter, MessagePage, MessageRow, find_messages
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent, record_engagement
from tracker.record.journal import enqueue_batch, open_entry
from tracker.status import Engagement, Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.messages import tallies

MOST = 3


def pages(
    database: Database, batch: Batch, wanted: MessageFilter, most: int = MOST
) -> Iterator[MessagePage]:
    after: int | None = messages.BEFORE_FIRST
    while after is not None:
        with database.read() as connection:
            page = find_messages(
                database, connection, batch.campaign, wanted, after=after, most=most
            )
        yield page
        after = page.after


def listed(database: Database, batch: Batch, wanted: MessageFilter) -> list[MessageRow]:
    return [each for page in pages(database, batch, wanted) for each in page.messages]


WANTED = [
    MessageFilter(statuses=frozenset(some))
    for size in (1, 2)
    for some in combinations(Status, size)
] + [MessageFilter(reasons=frozenset({reason})) for reason in Reason]


def test_every_filter_finds_what_a_look_at_every_message_finds(database: Database) -> None:
    make_busy_batch(database)  # of another campaign
    batch = make_busy_batch(database)
    there = states(database, batch)
    for wanted in [MessageFilter(), *WANTED]:
        expected = [
            number
            for number, state in there.items()
            if (not wanted.statuses or state.status in wanted.statuses)
            and (not wanted.reasons or state.reason in wanted.reasons)
        ]
        found = listed(database, batch, wanted)
        assert [each.number for each in found] == expected, wanted
        assert {each.total for each in pages(database, batch, wanted)} == {len(expected)}
        for each in found:
            state = there[each.number]
            assert (each.status, each.reason, each.attempt) == (
                *(state.status, state.reason),
                state.attempt,
            )
            assert each.customer_id == f"c{each.number}"


def test_pages_are_full_but_for_the_last(database: Database) -> None:
    batch = make_busy_batch(database)
    sizes = [len(page.messages) for page in pages(database, batch, MessageFilter(), most=5)]
    assert sizes == [5, 5, 5, 5, 2]
    exact = [len(page.messages) for page in pages(database, batch, MessageFilter(), most=11)]
    assert exact == [11, 11], "no empty page behind a last one that is full"


@pytest.fixture
def scattered(database: Database) -> Batch:
    """Forty batches of five messages; the fourth of every tenth batch is unsubscribed."""
    campaign = make_campaign(database, Plan(size=200))
    first, *others = [
        enqueue_batch(database, campaign, batch=number, first=5 * number, size=5, author=AUTHOR)
        for number in range(40)
    ]
    for batch in others[9::10]:
        move(
            database,
            batch,
            [batch.first + 3],
            stopped(Reason.UNSUBSCRIBED),
            step=Step.SUPPRESS,
        )
    return first


def test_what_is_rare_is_found_batch_by_batch(database: Database, scattered: Batch) -> None:
    found = listed(database, scattered, MessageFilter(reasons=frozenset({Reason.UNSUBSCRIBED})))
    assert [each.number for each in found] == [53, 103, 153]


def test_a_page_looks_at_no_more_than_so_many_messages(
    database: Database, scattered: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_SCANNED_MESSAGES", 10)
    wanted = MessageFilter(reasons=frozenset({Reason.UNSUBSCRIBED}))
    [first, second] = pages(database, scattered, wanted)
    assert [each.number for each in (*first.messages, *second.messages)] == [53, 103, 153]
    assert len(first.messages) == 2
    assert first.total == 3


def test_batches_without_what_is_wanted_are_not_looked_at(
    database: Database, scattered: Batch
) -> None:
    with database.write() as connection:  # a tally that says there is none hides what is there
        connection.execute(sa.update(tallies).where(tallies.c.batch == 20).values(messages=0))
    found = listed(database, scattered, MessageFilter(reasons=frozenset({Reason.UNSUBSCRIBED})))
    assert [each.number for each in found] == [53, 153]


def test_the_message_of_a_customer(database: Database) -> None:
    batch = make_busy_batch(database)
    unsubscribed = frozenset({Reason.UNSUBSCRIBED})
    assert [each.number for each in listed(database, batch, MessageFilter(customer="c17"))] == [17]
    assert listed(database, batch, MessageFilter(customer="c17", reasons=unsubscribed))
    assert not listed(database, batch, MessageFilter(customer="c16", reasons=unsubscribed))
    assert not listed(database, batch, MessageFilter(customer="nobody' OR 1=1"))


def test_recipients_who_did_something(database: Database) -> None:
    batch = make_busy_batch(database)
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.ENGAGE, AUTHOR, started_at=now) as written:
        clicked = [EngagementEvent(number, Engagement.CLICKED, now) for number in (6, 8)]
        record_engagement(written, [*clicked, EngagementEvent(6, Engagement.CLICKED, now + 1)])
    of_kind: Callable[[Engagement], list[int]] = lambda kind: [  # noqa: E731
        each.number for each in listed(database, batch, MessageFilter(engagement=kind))
    ]
    assert of_kind(Engagement.CLICKED) == [6, 8]
    assert of_kind(Engagement.OPENED) == [6, 8]
    assert of_kind(Engagement.SPAM) == []
