"""Pages of messages: the search finds what a scan of every message finds."""

from collections.abc import Iterator
from itertools import combinations

import pytest
import sqlalchemy as sa

from tests.support.factory import (
    AUTHOR,
    Plan,
    make_batch,
    make_busy_batch,
    make_campaign,
    move,
    not_sent_for,
    read_states,
)
from tracker.queries import messages
from tracker.queries.messages import MessageFilter, MessagePage, MessageRow, find_messages
from tracker.record.catalog import Batch, load_batch
from tracker.record.deferrals import Deferral, replace_deferrals, update_deferred_batch
from tracker.record.engagement import EngagementEvent, record_engagement
from tracker.record.journal import enqueue_batch, open_entry
from tracker.status import Engagement, Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.messages import tallies

PAGE_SIZE = 3


def read_pages(
    database: Database, batch: Batch, wanted: MessageFilter, limit: int = PAGE_SIZE
) -> Iterator[MessagePage]:
    after: int | None = messages.BEFORE_FIRST
    while after is not None:
        with database.read() as connection:
            page = find_messages(
                database, connection, batch.campaign, wanted, after=after, limit=limit
            )
        yield page
        after = page.after


def find_all(database: Database, batch: Batch, wanted: MessageFilter) -> list[MessageRow]:
    return [message for page in read_pages(database, batch, wanted) for message in page.messages]


FILTERS = [
    MessageFilter(statuses=frozenset(statuses))
    for size in (1, 2)
    for statuses in combinations(Status, size)
] + [MessageFilter(reasons=frozenset({reason})) for reason in Reason]


def test_every_filter_finds_what_a_full_scan_finds(database: Database) -> None:
    make_busy_batch(database)  # belongs to another campaign
    batch = make_busy_batch(database)
    states_by_number = read_states(database, batch)
    for wanted in [MessageFilter(), *FILTERS]:
        expected = [
            number
            for number, state in states_by_number.items()
            if (not wanted.statuses or state.status in wanted.statuses)
            and (not wanted.reasons or state.reason in wanted.reasons)
        ]
        rows = find_all(database, batch, wanted)
        assert [message.number for message in rows] == expected, wanted
        assert {page.total for page in read_pages(database, batch, wanted)} == {len(expected)}
        for message in rows:
            state = states_by_number[message.number]
            assert message.status is state.status
            assert message.reason is state.reason
            assert message.attempt == state.attempt
            assert message.customer_id == f"c{message.number}"


def test_pages_are_full_except_the_last(database: Database) -> None:
    batch = make_busy_batch(database)
    sizes = [len(page.messages) for page in read_pages(database, batch, MessageFilter(), limit=5)]
    assert sizes == [5, 5, 5, 5, 2]
    exact = [len(page.messages) for page in read_pages(database, batch, MessageFilter(), limit=11)]
    assert exact == [11, 11], "no empty page follows a full last one"


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
            not_sent_for(Reason.UNSUBSCRIBED),
            step=Step.SUPPRESS,
        )
    return first


def test_rare_messages_are_found_in_their_batches(database: Database, scattered: Batch) -> None:
    rows = find_all(database, scattered, MessageFilter(reasons=frozenset({Reason.UNSUBSCRIBED})))
    assert [message.number for message in rows] == [53, 103, 153]


def test_a_page_scans_a_limited_number_of_messages(
    database: Database, scattered: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_SCANNED_MESSAGES", 10)
    wanted = MessageFilter(reasons=frozenset({Reason.UNSUBSCRIBED}))
    [first, second] = read_pages(database, scattered, wanted)
    assert [message.number for message in (*first.messages, *second.messages)] == [53, 103, 153]
    assert len(first.messages) == 2
    assert first.total == 3


def test_batches_without_matches_are_not_read(database: Database, scattered: Batch) -> None:
    with database.write() as connection:  # a wrong tally hides the message
        connection.execute(sa.update(tallies).where(tallies.c.batch == 20).values(messages=0))
    rows = find_all(database, scattered, MessageFilter(reasons=frozenset({Reason.UNSUBSCRIBED})))
    assert [message.number for message in rows] == [53, 153]


def test_message_of_a_customer(database: Database) -> None:
    batch = make_busy_batch(database)
    unsubscribed = frozenset({Reason.UNSUBSCRIBED})
    assert [
        message.number for message in find_all(database, batch, MessageFilter(customer="c17"))
    ] == [17]
    assert find_all(database, batch, MessageFilter(customer="c17", reasons=unsubscribed))
    assert not find_all(database, batch, MessageFilter(customer="c16", reasons=unsubscribed))
    assert not find_all(database, batch, MessageFilter(customer="nobody' OR 1=1"))
    assert find_all(database, batch, MessageFilter(customer="customer17@example.com"))


def test_all_messages_to_a_shared_address(database: Database) -> None:
    people = {number: {"email": "Desk@example.com"} for number in (2, 5, 8, 9, 17)}
    batch = make_batch(database, Plan(size=20), people)
    wanted = MessageFilter(customer="desk@example.com")
    pages = list(read_pages(database, batch, wanted))
    assert [[message.number for message in page.messages] for page in pages] == [
        [2, 5, 8],
        [9, 17],
    ]
    assert {page.total for page in pages} == {5}


def test_recipients_by_engagement(database: Database) -> None:
    batch = make_busy_batch(database)
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.ENGAGE, AUTHOR, started_at=now) as written:
        clicked = [EngagementEvent(number, Engagement.CLICKED, now) for number in (6, 8)]
        record_engagement(written, [*clicked, EngagementEvent(6, Engagement.CLICKED, now + 1)])
    for kind, expected in {
        Engagement.CLICKED: [6, 8],
        Engagement.OPENED: [6, 8],
        Engagement.SPAM: [],
    }.items():
        rows = find_all(database, batch, MessageFilter(engagement=kind))
        assert [message.number for message in rows] == expected
    assert find_all(database, batch, MessageFilter(customer="c8", engagement=Engagement.OPENED))
    assert not find_all(database, batch, MessageFilter(customer="c7", engagement=Engagement.OPENED))


def test_only_deferred_messages_match_their_filter(database: Database, scattered: Batch) -> None:
    other = make_batch(database, Plan(size=200))
    campaign = scattered.campaign
    deferral = Deferral("quiet_hours", until=0, first_deferred_at=0)
    with database.write() as connection:
        replace_deferrals(database, connection, other, {51: deferral})
        update_deferred_batch(connection, other)
        for first, numbers in ((0, [1, 2, 4]), (50, [50, 54])):
            batch = load_batch(connection, campaign.id, first // 5)
            replace_deferrals(database, connection, batch, dict.fromkeys(numbers, deferral))
            update_deferred_batch(connection, batch)
    pages = list(read_pages(database, scattered, MessageFilter(is_deferred=True)))
    assert [[message.number for message in page.messages] for page in pages] == [
        [1, 2, 4],
        [50, 54],
    ]
    for wanted, expected in (
        (MessageFilter(is_deferred=True, customer="c50"), [50]),
        (MessageFilter(is_deferred=True, customer="c51"), []),
        (MessageFilter(is_deferred=True, statuses=frozenset({Status.NOT_SENT})), []),
    ):
        assert [message.number for message in find_all(database, scattered, wanted)] == expected


def test_no_message_is_both_deferred_and_engaged_with(database: Database, scattered: Batch) -> None:
    """The page says so at once, with a total; other pages of engagement have none."""
    wanted = MessageFilter(is_deferred=True, engagement=Engagement.OPENED)
    [page] = read_pages(database, scattered, wanted)
    assert (list(page.messages), page.total) == ([], 0)
