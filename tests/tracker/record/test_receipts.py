"""Receipts in any order: which are applied, and that each other one is recorded once."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    find_violations,
    in_gateway,
    in_status,
    make_batch,
    make_campaign,
    move,
    not_sent_for,
    read_states,
)
from tracker.clock import to_microseconds
from tracker.queries import acceptances, timeline
from tracker.record import receipts
from tracker.record.catalog import Batch
from tracker.record.due import read_due_times
from tracker.record.journal import QUEUED_STATE, State, enqueue_batch, open_entry
from tracker.record.receipts import MAX_BIGINT, Receipt, Receipts
from tracker.status import Reason, ReceiptVerdict, Status, Step
from tracker.store.database import Database
from tracker.store.schema.messages import refused_receipts

DELIVERED, HARD, SOFT = Status.DELIVERED, Status.HARD_BOUNCED, Status.SOFT_BOUNCED
DUPLICATE, STALE, UNKNOWN = ReceiptVerdict.DUPLICATE, ReceiptVerdict.STALE, ReceiptVerdict.UNKNOWN
ON_SECOND = (READY, in_gateway(), in_status(SOFT), in_gateway(2))


def apply(database: Database, batch: Batch, *received: Receipt) -> None:
    started_at = batch.campaign.clock.now()
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=started_at) as written:
        receipts.apply_receipts(written, received)


def refused(database: Database, batch: Batch) -> Counter[ReceiptVerdict]:
    with database.read() as connection:
        return acceptances.count_refused_receipts(connection, [batch.campaign.id])[
            batch.campaign.id
        ]


@pytest.mark.parametrize(
    ("history", "received", "expected", "verdicts"),
    [
        pytest.param(ON_SECOND, [(2, DELIVERED, 0)], in_status(DELIVERED, 2), [], id="counts"),
        pytest.param(
            ON_SECOND,
            [(2, DELIVERED, 0), (2, DELIVERED, 1)],
            in_status(DELIVERED, 2),
            [DUPLICATE],
            id="twice",
        ),
        pytest.param(
            ON_SECOND,
            [(2, DELIVERED, 0), (2, DELIVERED, 1), (2, DELIVERED, 2)],
            in_status(DELIVERED, 2),
            [DUPLICATE, DUPLICATE],
            id="three times",
        ),
        pytest.param(ON_SECOND, [(1, SOFT, 2)], in_gateway(2), [STALE], id="of an earlier attempt"),
        pytest.param(ON_SECOND, [(1, SOFT, 0)], in_gateway(2), [], id="what was applied before"),
        pytest.param(ON_SECOND, [(1, DELIVERED, 0)], in_gateway(2), [STALE], id="another outcome"),
        pytest.param(ON_SECOND, [(3, DELIVERED, 0)], in_gateway(2), [UNKNOWN], id="next attempt"),
        pytest.param(ON_SECOND, [(0, DELIVERED, 0)], in_gateway(2), [UNKNOWN], id="attempt 0"),
        pytest.param(ON_SECOND, [(2, 99, 0)], in_gateway(2), [UNKNOWN], id="no such status"),
        pytest.param(ON_SECOND, [(2, Status.QUEUED, 0)], in_gateway(2), [UNKNOWN], id="no outcome"),
        pytest.param(
            ON_SECOND,
            [(2, DELIVERED, 0), (2, HARD, 0)],
            in_status(HARD, 2),
            [],
            id="a late bounce",
        ),
        pytest.param(
            (*ON_SECOND, in_status(DELIVERED, 2)),
            [(2, HARD, 0), (2, HARD, 1)],
            in_status(HARD, 2),
            [DUPLICATE],
            id="a late bounce twice",
        ),
        pytest.param(
            (*ON_SECOND, in_status(DELIVERED, 2)),
            [(1, HARD, 0)],
            in_status(DELIVERED, 2),
            [STALE],
            id="a late bounce of an earlier attempt",
        ),
        pytest.param(
            (*ON_SECOND, in_status(HARD, 2)),
            [(2, DELIVERED, 0)],
            in_status(HARD, 2),
            [DUPLICATE],
            id="delivered after all",
        ),
        pytest.param((READY,), [(1, DELIVERED, 0)], READY, [], id="accepted, not yet on record"),
        pytest.param((READY,), [(2, DELIVERED, 0)], READY, [UNKNOWN], id="never accepted"),
        pytest.param((), [(1, DELIVERED, 0)], QUEUED_STATE, [UNKNOWN], id="never handed over"),
        pytest.param(
            (not_sent_for(Reason.NDNC),),
            [(1, DELIVERED, 0)],
            not_sent_for(Reason.NDNC),
            [UNKNOWN],
            id="not sent",
        ),
    ],
)
def test_which_receipts_count(
    database: Database,
    history: Sequence[State],
    received: Sequence[tuple[int, int, int]],
    expected: State,
    verdicts: Sequence[ReceiptVerdict],
) -> None:
    batch = make_batch(database, Plan(size=2))
    move(database, batch, [1], *history)
    now = batch.campaign.clock.now()
    given = [Receipt(1, attempt, status, now, copy) for attempt, status, copy in received]
    for _ in range(3):  # what is seen again is not counted again
        apply(database, batch, *given)
        assert read_states(database, batch) == {0: QUEUED_STATE, 1: expected}
        assert refused(database, batch) == Counter(verdicts)
    assert find_violations(database, batch.campaign) == []


def test_a_receipt_of_another_campaign_is_unknown(database: Database) -> None:
    ours, theirs = make_batch(database, Plan(size=2)), make_batch(database, Plan(size=5))
    move(database, theirs, [4], READY, in_gateway())
    apply(database, ours, Receipt(4, 1, DELIVERED, 7))
    assert read_states(database, theirs)[4] == in_gateway()
    assert refused(database, ours) == {UNKNOWN: 1}
    assert refused(database, theirs) == {}


def test_a_receipt_of_another_batch_is_unknown(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=4))
    one, two = (
        enqueue_batch(database, campaign, batch=place, first=2 * place, size=2, author=AUTHOR)
        for place in range(2)
    )
    move(database, two, [3], READY, in_gateway())
    apply(database, one, Receipt(3, 1, DELIVERED, 7))
    assert read_states(database, two)[3] == in_gateway()
    assert refused(database, one) == {UNKNOWN: 1}


@pytest.mark.parametrize(("ahead", "counts"), [(4, True), (6, False)])
def test_a_clock_may_be_some_minutes_ahead(database: Database, ahead: int, counts: bool) -> None:
    batch = make_batch(database, Plan(size=1))
    move(database, batch, [0], READY, in_gateway())
    at = batch.campaign.clock.now() + to_microseconds(timedelta(minutes=ahead))
    apply(database, batch, Receipt(0, 1, DELIVERED, at))
    assert read_states(database, batch)[0] == (in_status(DELIVERED) if counts else in_gateway())
    assert refused(database, batch) == ({} if counts else {UNKNOWN: 1})


def test_receipts_with_extreme_values_are_recorded(database: Database) -> None:
    batch = make_batch(database, Plan(size=1))
    huge = 10**30
    apply(database, batch, Receipt(-huge, huge, huge, huge), Receipt(0, 40_000, DELIVERED, -huge))
    with database.read() as connection:
        query = sa.select(refused_receipts).order_by(refused_receipts.c.number)
        rows = [(*row[1:],) for row in connection.execute(query)]
    assert rows == [
        (-MAX_BIGINT, MAX_BIGINT, MAX_BIGINT, 0, MAX_BIGINT, UNKNOWN),
        (0, 40_000, DELIVERED, 0, -MAX_BIGINT, UNKNOWN),
    ]


def test_details_of_receipts_are_recorded_with_the_transition(database: Database) -> None:
    batch = make_batch(database, Plan(size=2))
    move(database, batch, [0, 1], READY, in_gateway())
    received = [Receipt(0, 1, HARD, 7, detail="5.1.1"), Receipt(1, 1, DELIVERED, 7)]
    apply(database, batch, *received, Receipt(0, 1, HARD, 7, 1, "4.0.0"))
    with database.read() as connection:
        story = timeline.read_timeline(connection, batch.campaign, 0)
    assert [(event.status, event.detail) for event in story.events[-2:]] == [
        (Status.IN_GATEWAY, None),
        (HARD, "5.1.1"),
    ]


@pytest.mark.parametrize("tracks", [True, False])
def test_engagement_is_expected_from_the_first_delivery_on(
    database: Database, tracks: bool
) -> None:
    batch = make_batch(database, Plan(size=3, tracks_engagement=tracks))
    move(database, batch, [0, 1, 2], READY, in_gateway())
    due = []
    for receipt in (
        Receipt(0, 1, HARD, 5),
        Receipt(1, 1, DELIVERED, 30),
        Receipt(2, 1, DELIVERED, 20),
    ):
        apply(database, batch, receipt)
        with database.read() as connection:
            due.append(read_due_times(connection, batch).engagement_due_at)
    assert due == ([None, 30, 20] if tracks else [None] * 3)


OUTCOMES = st.sampled_from(sorted(receipts.OUTCOME_STATUSES))
ORIGINALS = st.lists(
    st.builds(
        Receipt, st.integers(0, 4), st.integers(1, 2), OUTCOMES, st.integers(1, 50), st.just(0)
    ),
    max_size=8,
    unique_by=lambda receipt: (receipt.number, receipt.attempt, receipt.status),
)
RECEIPTS = st.tuples(ORIGINALS, st.integers(0, 2)).map(
    lambda drawn: [
        receipt._replace(copy=copy) for receipt in drawn[0] for copy in range(drawn[1] + 1)
    ]
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(received=RECEIPTS, again=st.lists(st.integers(0, 23), max_size=6))
def test_receipts_in_any_number_of_parts_leave_the_record_sound(
    database: Database, received: list[Receipt], again: list[int]
) -> None:
    batch = make_batch(database, Plan(size=4))
    move(database, batch, [0, 1], READY, in_gateway())
    move(database, batch, [2, 3], *ON_SECOND)
    for receipt in received:
        apply(database, batch, receipt)
    before, counted = read_states(database, batch), refused(database, batch)
    apply(database, batch, *(received[place] for place in again if place < len(received)))
    apply(database, batch, *received)
    assert read_states(database, batch) == before
    assert refused(database, batch) == counted
    assert find_violations(database, batch.campaign) == []


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(received=RECEIPTS)
def test_receipts_together_do_what_each_does_in_the_order_of_time(
    database: Database, received: list[Receipt]
) -> None:
    together, alone = make_batch(database, Plan(size=4)), make_batch(database, Plan(size=4))
    for batch in (together, alone):
        move(database, batch, [0, 1], READY, in_gateway())
        move(database, batch, [2, 3], *ON_SECOND)
    apply(database, together, *received)
    for receipt in sorted(received, key=lambda receipt: (receipt.at, receipt.copy)):
        apply(database, alone, receipt)
    assert read_states(database, together) == read_states(database, alone)


_COUNTS = st.integers(-MAX_BIGINT, MAX_BIGINT)
_RECEIPTS = st.builds(
    Receipt, _COUNTS, _COUNTS, _COUNTS, _COUNTS, _COUNTS, st.none() | st.text(max_size=3)
)


@given(parts=st.lists(st.lists(_RECEIPTS, max_size=4), min_size=1, max_size=3))
def test_columns_read_as_the_receipts_that_they_were_made_of(parts: list[list[Receipt]]) -> None:
    listed = [receipt for part in parts for receipt in part]
    columns = Receipts.of(*parts)
    assert [*columns] == listed == [columns[position] for position in range(len(listed))]
    assert [*columns[1:]] == listed[1:]
    assert [*Receipts.of(columns, listed)] == listed * 2


def test_what_no_column_holds_becomes_the_nearest_value() -> None:
    [receipt] = Receipts.of([Receipt(2**70, 1, Status.DELIVERED, -(2**70))])
    assert (receipt.number, receipt.at) == (MAX_BIGINT, -MAX_BIGINT)
