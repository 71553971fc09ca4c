"""The only writer of statuses.

An :class:`Entry` is one step on one batch. Whatever it moves, it moves in one transaction: the
messages, by compare-and-set on status and attempt; a transition for exactly those that moved;
the batch's tallies; and the row of the step itself. So any step may be repeated, lost, or run
twice at once: what has already moved does not move again.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.errors import SendtraceError
from tracker.record.catalog import Batch, Campaign
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches, customers
from tracker.store.schema.messages import NO_REASON, messages, tallies, transitions
from tracker.store.schema.work import steps


class JournalError(SendtraceError):
    """The record contradicts itself; nothing was written."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What the record says of a message."""

    status: Status
    attempt: int = 0
    reason: Reason | None = None


QUEUED_STATE = State(status=Status.QUEUED)


@dataclass(frozen=True, kw_only=True)
class Move:
    """Messages that go from one state to another together.

    ``at`` is when that happened: one instant for all, or one for each of ``numbers``. The latter
    come from elsewhere, and none is put down as earlier than what it follows.
    """

    numbers: Sequence[int]
    source: State
    target: State
    at: Instant | Sequence[Instant]


@dataclass(frozen=True)
class Author:
    """Who makes an entry: a worker, and the Celery task that it is working on."""

    worker: str
    task_id: str | None = None


@dataclass
class Entry:
    """A step on a batch that is being written down. ``moved`` counts the messages so far."""

    database: Database
    connection: Connection
    batch: Batch
    step_id: int
    moved: int = 0
    _changes: Counter[State] = field(default_factory=Counter)

    def move(self, move: Move) -> Sequence[int]:
        """Move those of ``move.numbers`` that are still in its source state; which those were."""
        if not move.numbers:
            return ()
        count = self.connection.execute(
            sa.update(messages)
            .where(
                messages.c.campaign_id == self.batch.campaign.id,
                self.database.in_list(messages.c.number, move.numbers),
                messages.c.status == move.source.status,
                messages.c.attempt == move.source.attempt,
            )
            .values(
                status=move.target.status,
                attempt=move.target.attempt,
                reason=move.target.reason or NO_REASON,
            )
        ).rowcount
        moved: Sequence[int] = ()
        if count:
            moved = move.numbers if count == len(move.numbers) else self._read_moved_numbers(move)
            self._write_transitions(move, moved)
        self.moved += count
        self._changes[move.source] -= count
        self._changes[move.target] += count
        return moved

    def _read_moved_numbers(self, move: Move) -> Sequence[int]:
        """Which of ``move.numbers`` just got to its target: those without a transition to it."""
        had_been_there = (
            sa.select(transitions.c.number)
            .where(
                transitions.c.campaign_id == messages.c.campaign_id,
                transitions.c.status == messages.c.status,
                transitions.c.attempt == messages.c.attempt,
                transitions.c.number == messages.c.number,
            )
            .exists()
        )
        return self.connection.scalars(
            sa.select(messages.c.number).where(
                messages.c.campaign_id == self.batch.campaign.id,
                self.database.in_list(messages.c.number, move.numbers),
                messages.c.status == move.target.status,
                messages.c.attempt == move.target.attempt,
                ~had_been_there,
            )
        ).all()

    def _write_transitions(self, move: Move, moved: Sequence[int]) -> None:
        if isinstance(move.at, int):
            listed = self.database.table_from_columns(number=moved)
            at: sa.ColumnElement[int] = sa.literal(move.at, sa.BigInteger)
        else:
            instants = move.at
            if moved is not move.numbers:
                when = dict(zip(move.numbers, move.at, strict=True))
                instants = [when[number] for number in moved]
            listed = self.database.table_from_columns(number=moved, at=instants)
            at = listed.c.at
            if min(instants) < self._read_latest_arrival(move.source, moved):
                at = self._not_before_arrival(move.source, listed)
        self.connection.execute(
            sa.insert(transitions).from_select(
                list(transitions.c),
                sa.select(
                    sa.literal(self.batch.campaign.id, sa.Integer),
                    _smallint_literal(move.target.status),
                    _smallint_literal(move.target.attempt),
                    listed.c.number,
                    _smallint_literal(move.source.status),
                    _smallint_literal(move.target.reason or NO_REASON),
                    at,
                    sa.literal(self.step_id, sa.Integer),
                ),
            )
        )

    def _read_latest_arrival(self, state: State, numbers: Sequence[int]) -> Instant:
        """When the last of the messages around ``numbers`` got to a state."""
        latest: Instant | None = self.connection.scalar(
            sa.select(sa.func.max(transitions.c.at)).where(
                transitions.c.campaign_id == self.batch.campaign.id,
                transitions.c.status == state.status,
                transitions.c.attempt == state.attempt,
                transitions.c.number.between(min(numbers), max(numbers)),
            )
        )
        return latest or 0

    def _not_before_arrival(self, source: State, listed: sa.FromClause) -> sa.ColumnElement[int]:
        """When ``listed`` messages moved, as told by somebody whose clock may be wrong: nothing
        happens before what it follows."""
        came = transitions.alias("came")
        came_at = (
            sa.select(came.c.at)
            .where(
                came.c.campaign_id == self.batch.campaign.id,
                came.c.status == source.status,
                came.c.attempt == source.attempt,
                came.c.number == listed.c.number,
            )
            .scalar_subquery()
        )
        return sa.case((listed.c.at < came_at, came_at), else_=listed.c.at)

    def _finish(self) -> None:
        self._write_tallies()
        self.connection.execute(
            sa.update(steps)
            .where(steps.c.id == self.step_id)
            .values(finished_at=self.batch.campaign.clock.now(), moved=self.moved)
        )

    def _write_tallies(self) -> None:
        leaving = {state: count for state, count in self._changes.items() if count < 0}
        for state, count in leaving.items():
            self.connection.execute(
                sa.update(tallies)
                .where(
                    tallies.c.campaign_id == self.batch.campaign.id,
                    tallies.c.batch == self.batch.batch,
                    tallies.c.status == state.status,
                    tallies.c.reason == (state.reason or NO_REASON),
                    tallies.c.attempt == state.attempt,
                )
                .values(messages=tallies.c.messages + count)
            )
        arriving = {state: count for state, count in self._changes.items() if count > 0}
        if arriving:
            insert = self.database.upsert(tallies)
            self.connection.execute(
                insert.on_conflict_do_update(
                    index_elements=list(tallies.primary_key),
                    set_={"messages": tallies.c.messages + insert.excluded.messages},
                ),
                [
                    {
                        "campaign_id": self.batch.campaign.id,
                        "batch": self.batch.batch,
                        "status": state.status,
                        "reason": state.reason or NO_REASON,
                        "attempt": state.attempt,
                        "messages": count,
                    }
                    for state, count in arriving.items()
                ],
            )


def _smallint_literal(value: int) -> sa.ColumnElement[int]:
    return sa.literal(int(value), sa.SmallInteger)


@contextmanager
def open_entry(
    database: Database, batch: Batch, step: Step, author: Author, *, started_at: Instant
) -> Iterator[Entry]:
    """Write down a step that began at ``started_at``: all of it at the end, or nothing."""
    with database.write() as connection:
        # The batch's row goes first. It makes those who work on one batch at the same time
        # wait for each other, so that they can't deadlock over its messages.
        connection.execute(
            sa.update(batches)
            .where(batches.c.campaign_id == batch.campaign.id, batches.c.batch == batch.batch)
            .values(touched_at=batch.campaign.clock.now())
        )
        step_id = _insert_step(connection, batch, step, author, started_at)
        written = Entry(database, connection, batch, step_id)
        yield written
        written._finish()


def enqueue_batch(
    database: Database,
    campaign: Campaign,
    *,
    batch: int,
    first: int,
    size: int,
    author: Author,
    at: Instant | Sequence[Instant] | None = None,
) -> Batch:
    """Record ``size`` messages from ``first`` on as queued, one a customer of the audience.

    ``at`` is when they arrived: one instant for all, or one for each; None is now. The step says
    when that was written down.
    """
    now = campaign.clock.now()
    queued = Batch(campaign=campaign, batch=batch, first=first, size=size)
    with database.write() as connection:
        connection.execute(
            sa.insert(batches).values(
                campaign_id=campaign.id, batch=batch, first=first, size=size, touched_at=now
            )
        )
        step_id = _insert_step(connection, queued, Step.ENQUEUE, author, now)
        created = connection.execute(
            sa.insert(messages).from_select(
                [messages.c.campaign_id, messages.c.number, messages.c.status],
                sa.select(
                    sa.literal(campaign.id, sa.Integer),
                    customers.c.number,
                    _smallint_literal(QUEUED_STATE.status),
                ).where(
                    customers.c.audience_id == campaign.audience_id,
                    customers.c.number.between(first, queued.last),
                ),
            )
        ).rowcount
        if created != size:
            raise JournalError(
                f"campaign {campaign.name}: {created} customers for messages"
                f" {first} to {queued.last}, expected {size}"
            )
        _write_arrivals(database, connection, queued, step_id, now if at is None else at)
        fresh = Entry(database, connection, queued, step_id, moved=size)
        fresh._changes[QUEUED_STATE] += size
        fresh._finish()
    return queued


def _write_arrivals(
    database: Database,
    connection: Connection,
    batch: Batch,
    step_id: int,
    at: Instant | Sequence[Instant],
) -> None:
    if isinstance(at, int):
        numbers: sa.FromClause = (
            sa.select(messages.c.number)
            .where(
                messages.c.campaign_id == batch.campaign.id,
                messages.c.number.between(batch.first, batch.last),
            )
            .subquery()
        )
        arrived: sa.ColumnElement[int] = sa.literal(at, sa.BigInteger)
    else:
        numbers = database.table_from_columns(
            number=range(batch.first, batch.first + batch.size), at=at
        )
        arrived = numbers.c.at
    connection.execute(
        sa.insert(transitions).from_select(
            [
                transitions.c.campaign_id,
                transitions.c.number,
                transitions.c.status,
                transitions.c.attempt,
                transitions.c.at,
                transitions.c.step_id,
            ],
            sa.select(
                sa.literal(batch.campaign.id, sa.Integer),
                numbers.c.number,
                _smallint_literal(QUEUED_STATE.status),
                _smallint_literal(QUEUED_STATE.attempt),
                arrived,
                sa.literal(step_id, sa.Integer),
            ),
        )
    )


def _insert_step(
    connection: Connection,
    batch: Batch,
    step: Step,
    author: Author,
    started_at: Instant,
) -> int:
    step_id: int = connection.execute(
        sa.insert(steps)
        .values(
            campaign_id=batch.campaign.id,
            batch=batch.batch,
            step=step,
            task_id=author.task_id,
            worker=author.worker,
            started_at=started_at,
            finished_at=batch.campaign.clock.now(),
            moved=0,
        )
        .returning(steps.c.id)
    ).scalar_one()
    return step_id
