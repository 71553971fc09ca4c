"""Bounce counts of customers follow the outcomes of their messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from tests.support.factory import (
    READY,
    OvertakenDatabase,
    Plan,
    in_gateway,
    make_batch,
    move,
    step_context,
)
from tracker.clock import Instant
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import Receipt
from tracker.status import Channel, Status
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from workers.gateways.base import PollResult, Submission, SubmissionResult
from workers.gateways.throttle import UnlimitedThrottle
from workers.steps import at_gateway

HARD, SOFT, DELIVERED = Status.HARD_BOUNCED, Status.SOFT_BOUNCED, Status.DELIVERED

OTHER = {Channel.EMAIL: Channel.SMS, Channel.SMS: Channel.EMAIL}


@dataclass
class Answering:
    """A gateway that reports one outcome of all messages, twice."""

    outcome: Status
    attempt: int
    numbers: Sequence[int] = range(100)

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        return SubmissionResult({now: submission.numbers})

    def receipts(
        self, _: Batch, awaited: Mapping[int, Sequence[int]], now: Instant
    ) -> PollResult[Receipt]:
        asked = (number for numbers in awaited.values() for number in numbers)
        answered = [number for number in asked if number in self.numbers]
        return PollResult(
            [Receipt(number, self.attempt, self.outcome, now) for number in answered] * 2
        )

    def engagement(self, *_: object) -> PollResult[EngagementEvent]:
        return PollResult(())


def bounces(database: Database, batch: Batch, channel: Channel) -> list[tuple[int, int]]:
    """Return the hard and soft bounces of each customer on a channel."""
    columns = (customers.c[f"{kind}_bounces_{channel}"] for kind in ("hard", "soft"))
    query = sa.select(*columns).filter_by(audience_id=batch.campaign.audience_id)
    with database.read() as connection:
        return [(hard, soft) for hard, soft in connection.execute(query.order_by("number"))]


def history(channel: Channel, hard: int, soft: int) -> dict[str, object]:
    return {f"hard_bounces_{channel}": hard, f"soft_bounces_{channel}": soft}


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize(
    ("outcome", "attempt", "expected"),
    [
        pytest.param(HARD, 1, [(1, 0), (5, 2)], id="hard"),
        pytest.param(HARD, 2, [(1, 0), (5, 2)], id="hard on the second attempt"),
        pytest.param(SOFT, 1, [(0, 0), (4, 2)], id="soft, an attempt left"),
        pytest.param(SOFT, 2, [(0, 1), (4, 3)], id="soft, none left"),
        pytest.param(DELIVERED, 1, [(0, 0), (4, 0)], id="delivered"),
        pytest.param(DELIVERED, 2, [(0, 0), (4, 0)], id="delivered after a soft bounce"),
        pytest.param(Status.NOT_DELIVERED, 1, [(0, 0), (4, 2)], id="lost"),
    ],
)
def test_the_end_of_a_message_is_noted_once_on_its_channel(
    database: Database,
    channel: Channel,
    outcome: Status,
    attempt: int,
    expected: list[tuple[int, int]],
) -> None:
    elsewhere = history(OTHER[channel], 7, 8)
    people = {0: elsewhere, 1: elsewhere | history(channel, 4, 2)}
    batch = make_batch(database, Plan(size=3, channel=channel, attempts=2), people)
    move(database, batch, [0, 1], READY, in_gateway())
    if attempt == 2:
        move_again(database, batch)
    gateway = Answering(outcome, attempt)
    for _ in range(2):  # the second time there is nothing left to ask for
        at_gateway.deliver(step_context(database, batch), gateway)
    assert bounces(database, batch, channel) == [*expected, (0, 0)]
    assert bounces(database, batch, OTHER[channel]) == [(7, 8), (7, 8), (0, 0)]


def move_again(database: Database, batch: Batch) -> None:
    """Let the messages of a batch soft-bounce and be submitted again."""
    at_gateway.deliver(step_context(database, batch), Answering(SOFT, 1))
    at_gateway.submit(step_context(database, batch), Answering(SOFT, 2), UnlimitedThrottle())


@pytest.mark.parametrize(("outcome", "expected"), [(HARD, (1, 0)), (SOFT, (0, 1))])
def test_a_bounce_counts_once_though_two_deliver_it(
    database: Database, outcome: Status, expected: tuple[int, int]
) -> None:
    batch = make_batch(database, Plan(size=2, attempts=1))
    move(database, batch, [0, 1], READY, in_gateway())
    gateway = Answering(outcome, 1)
    overtaken = OvertakenDatabase(
        database.engine, [lambda: at_gateway.deliver(step_context(database, batch), gateway)]
    )
    at_gateway.deliver(step_context(overtaken, batch), gateway)
    assert bounces(database, batch, Channel.EMAIL) == [expected, expected]


def test_only_messages_that_the_entry_moved_count(database: Database) -> None:
    """One of the two messages is given up between the poll and the entry."""
    batch = make_batch(database, Plan(size=2))
    move(database, batch, [0, 1], READY, in_gateway())
    arrival = Answering(Status.NOT_DELIVERED, 1, [1])
    overtaken = OvertakenDatabase(
        database.engine, [lambda: at_gateway.deliver(step_context(database, batch), arrival)]
    )
    at_gateway.deliver(step_context(overtaken, batch), Answering(HARD, 1))
    assert bounces(database, batch, Channel.EMAIL) == [(1, 0), (0, 0)]


def test_bounces_of_other_audiences_stay(database: Database) -> None:
    ours, theirs = make_batch(database, Plan(size=1)), make_batch(database, Plan(size=1))
    move(database, ours, [0], READY, in_gateway())
    at_gateway.deliver(step_context(database, ours), Answering(HARD, 1))
    assert bounces(database, ours, Channel.EMAIL) == [(1, 0)]
    assert bounces(database, theirs, Channel.EMAIL) == [(0, 0)]
