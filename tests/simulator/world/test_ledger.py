"""The gateway's ledger: one acceptance per attempt, and its invariants against the record."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from simulator.results import ledger_invariants
from simulator.schema import acceptances
from simulator.world import ledger
from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    in_gateway,
    in_status,
    make_batch,
    move,
    not_sent_for,
)
from tracker.audit import invariants
from tracker.audit.invariants import InvariantResult
from tracker.clock import Instant
from tracker.record.catalog import Batch
from tracker.record.journal import Move, State, open_entry
from tracker.status import Reason, Status, Step
from tracker.store.database import Database

DELIVERED, SOFT, HARD = Status.DELIVERED, Status.SOFT_BOUNCED, Status.HARD_BOUNCED


def accept(
    database: Database,
    numbers: Sequence[int],
    outcome: Status,
    *,
    at: Instant,
    campaign: int = 1,
    attempt: int = 1,
    latency: int = 10,
) -> dict[int, Instant]:
    """Accept messages that all end alike after a latency; return those accepted before."""
    plan = ledger.SubmissionPlan(
        campaign_id=campaign,
        attempt=attempt,
        numbers=numbers,
        accepted_at=np.full(len(numbers), at),
        outcomes=np.full(len(numbers), outcome),
        due_at=np.full(len(numbers), at + latency),
        rejections=np.zeros(len(numbers), np.int64),
    )
    return dict(ledger.record_acceptance(database, plan).accepted_before)


Row = tuple[int, int, int, Instant, int, Instant, int]


def rows(database: Database) -> list[Row]:
    """Campaign, number, attempt, accepted_at, outcome, due_at and repeats of all acceptances."""
    query = sa.select(acceptances).order_by(*acceptances.primary_key)
    with database.read() as connection:
        return [(*row,) for row in connection.execute(query)]


def repeats(database: Database, *campaigns: int) -> int:
    with database.read() as connection:
        return ledger.count_ledger_events(connection, campaigns).repeats


def test_a_repeated_acceptance_keeps_the_first(database: Database) -> None:
    assert accept(database, [1, 2], DELIVERED, at=100) == {}
    assert accept(database, [2, 3], HARD, at=200) == {2: 100}
    assert accept(database, [3, 2, 1], SOFT, at=300, latency=0) == {1: 100, 2: 100, 3: 200}
    assert rows(database) == [
        (1, 1, 1, 100, DELIVERED, 110, 1),
        (1, 2, 1, 100, DELIVERED, 110, 2),
        (1, 3, 1, 200, HARD, 210, 1),
    ]
    assert repeats(database, 1) == 4


def test_another_attempt_or_campaign_is_another_acceptance(database: Database) -> None:
    accept(database, [1], SOFT, at=100)
    assert accept(database, [1], DELIVERED, at=200, attempt=2) == {}
    assert accept(database, [1], HARD, at=300, campaign=2) == {}
    assert accept(database, [1], HARD, at=400, campaign=2) == {1: 300}
    assert rows(database) == [
        (1, 1, 1, 100, SOFT, 110, 0),
        (1, 1, 2, 200, DELIVERED, 210, 0),
        (2, 1, 1, 300, HARD, 310, 1),
    ]
    assert (repeats(database, 1), repeats(database, 2), repeats(database, 1, 2)) == (0, 1, 1)
    assert repeats(database) == 0


@pytest.mark.parametrize(
    ("outcome", "latency"),
    [
        pytest.param(Status.IN_GATEWAY, 0, id="no outcome"),
        pytest.param(Status.NOT_SENT, 0, id="not sent"),
        pytest.param(DELIVERED, -1, id="before it was accepted"),
    ],
)
def test_the_table_refuses_impossible_rows(
    database: Database, outcome: Status, latency: int
) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        accept(database, [1], outcome, at=100, latency=latency)
    assert rows(database) == []


@pytest.mark.parametrize(
    ("now", "out", "next_due"),
    [
        pytest.param(99, [], 110, id="too early"),
        pytest.param(109, [], 110, id="a microsecond too early"),
        pytest.param(110, [(1, SOFT, 110)], 160, id="just now"),
        pytest.param(10_000, [(1, SOFT, 110), (2, HARD, 160)], None, id="all"),
    ],
)
def test_receipts_are_reported_when_they_are_due(
    database: Database,
    now: Instant,
    out: list[tuple[int, int, Instant]],
    next_due: Instant | None,
) -> None:
    accept(database, [1], SOFT, at=100)
    accept(database, [1], DELIVERED, at=200, attempt=2)
    accept(database, [2, 3], HARD, at=150)
    accept(database, [1, 2], HARD, at=0, campaign=2)
    due = ledger.read_due_receipts(database, 1, 1, [1, 2, 4], now)
    receipts = sorted((receipt.number, receipt.status, receipt.at) for receipt in due.receipts)
    assert (receipts, due.next_due) == (out, next_due)


def make_submitted_batch(database: Database) -> Batch:
    """Return a batch: 0 was submitted once and 1 twice; 2 is Not Sent, and 3 is queued."""
    batch = make_batch(database, Plan(size=4))
    accept(database, [0, 1], SOFT, at=100, campaign=batch.campaign.id)
    accept(database, [1], DELIVERED, at=200, campaign=batch.campaign.id, attempt=2)
    move(database, batch, [0], READY, in_gateway())
    move(database, batch, [1], READY, in_gateway(), in_status(SOFT), in_gateway(2))
    move(database, batch, [2], not_sent_for(Reason.UNSUBSCRIBED))
    return batch


def check_invariants(database: Database, batch: Batch) -> dict[str, InvariantResult]:
    with database.read() as connection:
        results = invariants.check_invariants(
            connection, [batch.campaign], ledger_invariants.INVARIANTS
        )
    return {result.invariant.name: result for result in results}


def test_the_invariants_hold_where_ledger_and_record_agree(database: Database) -> None:
    batch = make_submitted_batch(database)
    accept(database, [0], HARD, at=900, campaign=batch.campaign.id)  # a repeat breaks nothing
    assert all(finding.is_satisfied for finding in check_invariants(database, batch).values())


def test_an_acceptance_may_precede_its_record(
    database: Database,
) -> None:
    """This is the state between the commits of gateway and journal, and after a crash there."""
    batch = make_submitted_batch(database)
    move(database, batch, [3], READY)
    accept(database, [3], DELIVERED, at=300, campaign=batch.campaign.id)
    move_on(database, batch, 0, in_gateway(), in_status(SOFT))
    accept(database, [0], DELIVERED, at=300, campaign=batch.campaign.id, attempt=2)
    assert all(finding.is_satisfied for finding in check_invariants(database, batch).values())


@pytest.mark.parametrize(
    ("states", "attempt"),
    [
        pytest.param([READY], 2, id="a second attempt before the first"),
        pytest.param([READY, in_gateway(), in_status(SOFT)], 3, id="a third before the second"),
        pytest.param(
            [READY, *(s for n in (1, 2, 3) for s in (in_gateway(n), in_status(SOFT, n)))],
            4,
            id="an attempt more than there are",
        ),
    ],
)
def test_an_acceptance_of_an_impossible_attempt_is_found(
    database: Database, states: list[State], attempt: int
) -> None:
    batch = make_batch(database, Plan(size=1))
    move(database, batch, [0], *states)
    for earlier in range(1, attempt):
        if len(states) > 1:
            accept(database, [0], SOFT, at=100, campaign=batch.campaign.id, attempt=earlier)
    if len(states) == 3:
        with database.write() as connection:
            delete_acceptance(0, 2)(connection, batch)
    accept(database, [0], SOFT, at=200, campaign=batch.campaign.id, attempt=attempt)
    results = check_invariants(database, batch)
    assert [name for name, each in results.items() if not each.is_satisfied] == [
        "accepted_is_recorded"
    ]
    assert results["accepted_is_recorded"].violation_count == 1


def test_another_outcome_than_that_of_the_ledger_is_found(database: Database) -> None:
    batch = make_batch(database, Plan(size=3))
    accept(database, [0, 1], DELIVERED, at=100, campaign=batch.campaign.id)
    move(database, batch, [0, 1], READY, in_gateway(), in_status(DELIVERED))
    move_on(database, batch, 0, in_status(DELIVERED), in_status(HARD))
    assert all(finding.is_satisfied for finding in check_invariants(database, batch).values()), (
        "late is legal"
    )
    accept(database, [2], DELIVERED, at=100, campaign=batch.campaign.id)
    move(database, batch, [2], READY, in_gateway(), in_status(HARD))
    results = check_invariants(database, batch)
    assert [name for name, each in results.items() if not each.is_satisfied] == [
        "outcome_is_recorded"
    ]
    assert results["outcome_is_recorded"].examples == (
        {
            "campaign_id": batch.campaign.id,
            "number": 2,
            "attempt": 1,
            "status": HARD,
            "outcome": DELIVERED,
        },
    )


def move_on(database: Database, batch: Batch, number: int, source: State, target: State) -> None:
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=now) as written:
        assert written.move(Move(numbers=[number], source=source, target=target, at=now))


def insert_acceptance(number: int, attempt: int) -> Callable[[Connection, Batch], object]:
    return lambda connection, batch: connection.execute(
        sa.insert(acceptances).values(
            campaign_id=batch.campaign.id,
            number=number,
            attempt=attempt,
            accepted_at=1,
            outcome=DELIVERED,
            due_at=1,
        )
    )


def delete_acceptance(number: int, attempt: int) -> Callable[[Connection, Batch], object]:
    return lambda connection, batch: connection.execute(
        sa.delete(acceptances).filter_by(
            campaign_id=batch.campaign.id, number=number, attempt=attempt
        )
    )


@pytest.mark.parametrize(
    ("breaks", "invariant", "example"),
    [
        pytest.param(
            insert_acceptance(2, 1),
            "accepted_is_recorded",
            {"number": 2, "attempt": 1, "status": Status.NOT_SENT},
            id="accepted, though Not Sent",
        ),
        pytest.param(
            insert_acceptance(3, 1),
            "accepted_is_recorded",
            {"number": 3, "attempt": 1, "status": Status.QUEUED},
            id="accepted, though queued",
        ),
        pytest.param(
            insert_acceptance(0, 2),
            "accepted_is_recorded",
            {"number": 0, "attempt": 2, "status": Status.IN_GATEWAY},
            id="accepted once more",
        ),
        pytest.param(
            insert_acceptance(99, 1),
            "accepted_is_recorded",
            {"number": 99, "attempt": 1, "status": None},
            id="accepted, though unknown",
        ),
        pytest.param(
            delete_acceptance(0, 1),
            "recorded_is_accepted",
            {"number": 0, "attempt": 1},
            id="recorded, but never accepted",
        ),
        pytest.param(
            delete_acceptance(1, 2),
            "recorded_is_accepted",
            {"number": 1, "attempt": 2},
            id="second attempt never accepted",
        ),
    ],
)
def test_broken_invariants_are_found(
    database: Database,
    breaks: Callable[[Connection, Batch], object],
    invariant: str,
    example: dict[str, object],
) -> None:
    batch = make_submitted_batch(database)
    with database.write() as connection:
        breaks(connection, batch)
    results = check_invariants(database, batch)
    assert [name for name, finding in results.items() if not finding.is_satisfied] == [invariant]
    assert results[invariant].violation_count == 1
    assert results[invariant].examples == ({"campaign_id": batch.campaign.id, **example},)
