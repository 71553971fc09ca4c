"""Counters: they say what happened, whatever becomes of the messages, and never fall."""

from functools import partial

import pytest
import sqlalchemy as sa

from tests.support.factory import (
    AUTHOR,
    READY,
    in_gateway,
    in_status,
    make_batch,
    make_busy_batch,
    move,
    run_concurrently,
)
from tracker.record.journal import open_entry
from tracker.record.monitoring.counters import (
    SHARDS,
    CounterName,
    Counters,
    CounterValue,
    read_counters,
    record_counters,
    state_labels,
)
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.messages import transitions


def read(database: Database, name: CounterName) -> dict[str, CounterValue]:
    with database.read() as connection:
        return dict(read_counters(connection)[name])


def test_each_transition_is_counted_by_status_and_reason(database: Database) -> None:
    make_busy_batch(database)
    with database.read() as connection:
        rows = connection.execute(
            sa.select(transitions.c.status, transitions.c.reason, sa.func.count()).group_by(
                transitions.c.status, transitions.c.reason
            )
        ).all()
    expected = {
        state_labels(Status(status), Reason(reason) if reason else None): count
        for status, reason, count in rows
    }
    counted = read(database, CounterName.TRANSITIONS)
    assert {labels: value.events for labels, value in counted.items()} == expected


def test_a_message_that_leaves_a_status_stays_counted(database: Database) -> None:
    batch = make_batch(database)
    move(database, batch, [0], READY, in_gateway(), in_status(Status.SOFT_BOUNCED), in_gateway(2))
    counted = read(database, CounterName.TRANSITIONS)
    assert (counted["soft_bounced"].events, counted["in_gateway"].events) == (1, 2)


def test_nothing_is_counted_of_an_entry_that_fails(database: Database) -> None:
    batch = make_batch(database)
    before = read(database, CounterName.TRANSITIONS)
    pending = Counters()
    pending.add(CounterName.GATEWAY_CALLS, "smtp submit")
    started_at = batch.campaign.clock.now()

    def fail() -> None:
        with open_entry(
            database, batch, Step.SUPPRESS, AUTHOR, started_at=started_at, counters=pending
        ) as entry:
            entry.counters.add(CounterName.TRANSITIONS, "queued")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # raised above
        fail()
    assert read(database, CounterName.TRANSITIONS) == before
    assert read(database, CounterName.GATEWAY_CALLS) == {}
    with open_entry(
        database, batch, Step.SUPPRESS, AUTHOR, started_at=started_at, counters=pending
    ):
        pass
    assert read(database, CounterName.GATEWAY_CALLS) == {"smtp submit": CounterValue(1)}
    assert not pending, "it is recorded once"
    assert sum(value.events for value in read(database, CounterName.STEP_SECONDS).values()) == 1


def test_workers_that_count_at_once_neither_lose_a_count_nor_deadlock(database: Database) -> None:
    """Each adds to the same rows, in another order."""
    names = [CounterName.GATEWAY_CALLS, CounterName.FAILED_STEPS, CounterName.REFUSED_RECEIPTS]

    def count(turn: int) -> None:
        for number in range(20):
            additions = Counters()
            for name in names[turn:] + names[:turn]:
                additions.add(name, "x", 1, 2)
            with database.write() as connection:
                additions.write(database, connection, shard=number % 2 * SHARDS)

    run_concurrently(*(partial(count, turn) for turn in range(3)))
    for name in names:
        assert read(database, name) == {"x": CounterValue(60, 120)}


def test_additions_are_recorded_once(database: Database) -> None:
    additions = Counters()
    additions.observe(CounterName.WAIT_SECONDS, "submit", 0.2)
    additions.observe(CounterName.WAIT_SECONDS, "submit", 1_000.0)
    additions.observe(CounterName.WAIT_SECONDS, "submit", -1.0)
    record_counters(database, additions)
    record_counters(database, additions)
    assert read(database, CounterName.WAIT_SECONDS) == {
        "submit 0": CounterValue(1, 0),
        "submit 3": CounterValue(1, 200_000),
        "submit 12": CounterValue(1, 1_000_000_000),
    }
