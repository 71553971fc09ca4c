"""The only writer of statuses.

An `Entry` is one step on one batch, written in one transaction: messages move by compare-and-set on
status and attempt, exactly the moved messages get a transition, the batch's tallies follow, and the
step gets its row. So a step may be repeated, lost or run twice at once: what has moved already
doesn't move again.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_real_seconds
from tracker.errors import SendtraceError
from tracker.record.arrivals import (
    count_customers,
    insert_arrivals,
    not_before_arrival,
    read_latest_arrival,
)
from tracker.record.bounces import BounceTallies
from tracker.record.catalog import Batch, Campaign
from tracker.record.check_times import CheckTime, encode_check_times
from tracker.record.deferrals import Deferral, replace_deferrals, update_deferred_batch
from tracker.record.details import TransitionDetail, insert_details
from tracker.record.monitoring.counters import CounterName, Counters
from tracker.record.predicates import is_of_batch, is_same_transition
from tracker.record.registration import lock_driven_run
from tracker.record.suppressions.changes import SuppressionChanges
from tracker.status import Reason, Status, Step
from tracker.store.columns import Numbers, as_array
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import (
    BOUNCED_STATUSES,
    NO_REASON,
    messages,
    tallies,
    transitions,
)
from tracker.store.schema.work import steps


class JournalError(SendtraceError):
    """The record contradicts itself; nothing was written."""


@dataclass(frozen=True, kw_only=True)
class State:
    """The recorded state of a message."""

    status: Status
    attempt: int = 0
    reason: Reason | None = None

    @property
    def columns(self) -> dict[str, int]:
        """The state as the columns of a message or a tally."""
        reason = self.reason or NO_REASON
        return {"status": self.status, "attempt": self.attempt, "reason": reason}


QUEUED_STATE = State(status=Status.QUEUED)


@dataclass(frozen=True, kw_only=True)
class Move:
    """Messages that go from one state to another together.

    Attributes:
        source: the state that a message must be in to move.
        at: when that happened: one instant for all, or one for each of `numbers`. Instants of a
            foreign clock may be too early; a transition never gets an earlier time than the one
            before it.
        details: what to record beside the transitions of exceptional messages, by number.
    """

    numbers: Sequence[int]
    source: State
    target: State
    at: "Instant | Numbers"
    details: Mapping[int, TransitionDetail] | None = None


@dataclass(frozen=True)
class Author:
    """The worker that makes an entry, and its Celery task."""

    worker: str
    task_id: str | None = None


@dataclass
class Entry:
    """A step on a batch that is being recorded.

    Attributes:
        moved: number of messages that were moved so far.
        has_deferrals: whether a check has deferred messages of the batch.
        suppressions: what it changes of the organization's suppression list.
        counters: what it adds to the counters.
    """

    database: Database
    connection: Connection
    batch: Batch
    step_id: int
    moved: int = 0
    has_deferrals: bool = False
    suppressions: SuppressionChanges = field(default_factory=SuppressionChanges)
    counters: Counters = field(default_factory=Counters)
    _has_new_deferrals: bool = False
    _changes: Counter[State] = field(default_factory=Counter)

    def move(self, move: Move) -> Sequence[int]:
        """Move the messages that are in the source state, and return their numbers."""
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
            .values(move.target.columns)
        ).rowcount
        moved: Sequence[int] = ()
        if count:
            moved = move.numbers if count == len(move.numbers) else self._read_moved_numbers(move)
            self._insert_transitions(move, moved)
            if move.details:
                self._insert_details(move.target, move.details, moved)
            bounces = BounceTallies(self.database, self.connection, self.batch)
            if move.source.status is Status.SOFT_BOUNCED:
                bounces.uncount_soft_bounces(move.source.attempt, moved)
            if move.target.status in BOUNCED_STATUSES:
                bounces.count(move.target.status, moved, move.details or {})
        self.moved += count
        self._changes[move.source] -= count
        self._changes[move.target] += count
        self.counters.add_transitions(move.target.status, move.target.reason, count)
        return moved

    def defer(self, deferrals: Mapping[int, Deferral]) -> None:
        """Record until when queued messages wait, by their numbers."""
        if deferrals:
            replace_deferrals(self.database, self.connection, self.batch, deferrals)
            self.has_deferrals = self._has_new_deferrals = True

    def _read_moved_numbers(self, move: Move) -> Sequence[int]:
        """Return the numbers that are in the target state and have no transition to it yet."""
        has_transition = sa.exists().where(is_same_transition(transitions, messages))
        return self.connection.scalars(
            sa.select(messages.c.number).where(
                messages.c.campaign_id == self.batch.campaign.id,
                self.database.in_list(messages.c.number, move.numbers),
                messages.c.status == move.target.status,
                messages.c.attempt == move.target.attempt,
                ~has_transition,
            )
        ).all()

    def _insert_transitions(self, move: Move, moved: Sequence[int]) -> None:
        if isinstance(move.at, int):
            rows = self.database.table_from_columns(number=moved)
            at: sa.ColumnElement[int] = sa.literal(move.at, sa.BigInteger)
        else:
            instants = as_array(move.at)
            if moved is not move.numbers:
                instant_by_number = dict(zip(move.numbers, instants.tolist(), strict=True))
                instants = as_array([instant_by_number[number] for number in moved])
            rows = self.database.table_from_columns(number=moved, at=instants)
            at = rows.c.at
            source = (self.batch.campaign.id, move.source.status, move.source.attempt)
            if int(instants.min()) < read_latest_arrival(self.connection, *source, moved):
                at = not_before_arrival(*source, rows)
        self.connection.execute(
            sa.insert(transitions).from_select(
                list(transitions.c),
                sa.select(
                    sa.literal(self.batch.campaign.id, sa.Integer),
                    _smallint_literal(move.target.status),
                    _smallint_literal(move.target.attempt),
                    rows.c.number,
                    _smallint_literal(move.source.status),
                    _smallint_literal(move.target.reason or NO_REASON),
                    at,
                    sa.literal(self.step_id, sa.Integer),
                ),
            )
        )

    def _insert_details(
        self, target: State, details: Mapping[int, TransitionDetail], moved: Sequence[int]
    ) -> None:
        campaign_id = self.batch.campaign.id
        key = {"campaign_id": campaign_id, "status": target.status, "attempt": target.attempt}
        by_number = {number: details[number] for number in moved if number in details}
        if by_number:
            insert_details(self.database, self.connection, key, by_number)

    def _finish(self) -> None:
        self._update_tallies()
        has_moved_queued = self._changes[QUEUED_STATE] < 0
        if self._has_new_deferrals or (self.has_deferrals and has_moved_queued):
            update_deferred_batch(self.connection, self.batch)
        self.connection.execute(
            sa.update(steps)
            .where(steps.c.id == self.step_id)
            .values(finished_at=self.batch.campaign.clock.now(), moved=self.moved)
        )
        self.suppressions.write(self.database, self.connection, self.batch.campaign)
        self.counters.write(self.database, self.connection, shard=self.batch.batch)

    def _update_tallies(self) -> None:
        for state, count in self._changes.items():
            if count < 0:
                self.connection.execute(
                    sa.update(tallies)
                    .where(
                        is_of_batch(tallies, self.batch),
                        *(tallies.c[name] == value for name, value in state.columns.items()),
                    )
                    .values(messages=tallies.c.messages + count)
                )
        key = {"campaign_id": self.batch.campaign.id, "batch": self.batch.batch}
        gains = [
            {**key, **state.columns, "messages": count}
            for state, count in self._changes.items()
            if count > 0
        ]
        self.database.add_to_rows(self.connection, tallies, gains, "messages")


@contextmanager
def open_entry(
    database: Database,
    batch: Batch,
    step: Step,
    author: Author,
    *,
    started_at: Instant,
    check_times: Mapping[str, CheckTime] | None = None,
    counters: Counters | None = None,
) -> Iterator[Entry]:
    """Open the entry of a step. It is recorded at the end of the block, or not at all.

    `check_times` has the time of each check that the step ran, by its name. `counters` are recorded
    with the entry, and then cleared.
    """
    with database.write() as connection:
        # Locked first: entries of the same batch wait here, and can't deadlock over its messages.
        deferred = connection.scalar(
            sa.update(batches)
            .where(is_of_batch(batches, batch))
            .values(touched_at=batch.campaign.clock.now())
            .returning(batches.c.deferred)
        )
        step_id = _insert_step(connection, batch, step, author, started_at, check_times)
        entry = Entry(database, connection, batch, step_id, has_deferrals=bool(deferred))
        yield entry
        seconds = to_real_seconds(batch.campaign.clock.now() - started_at, batch.campaign.speed)
        entry.counters.observe(CounterName.STEP_SECONDS, step, seconds)
        additions = counters or Counters()
        entry.counters.include(additions)
        entry._finish()
    additions.clear()


def enqueue_batch(
    database: Database,
    campaign: Campaign,
    *,
    batch: int,
    first: int,
    size: int,
    author: Author,
    at: Instant | Sequence[Instant] | None = None,
    resumes: int | None = None,
) -> Batch:
    """Record a batch of queued messages, one for each customer of the same number.

    Args:
        at: when they arrived: one instant for all, or one for each; None for now.
        resumes: how often the run had been resumed when its driver started; None if it has none.

    Raises:
        JournalError: the audience lacks some of these customers.
        RunSuperseded: a further driver has resumed the run.
    """
    now = campaign.clock.now()
    queued = Batch(campaign=campaign, batch=batch, first=first, size=size)
    with database.write() as connection:
        if resumes is not None:
            lock_driven_run(connection, campaign.run_id, resumes)
        connection.execute(
            sa.insert(batches).values(
                campaign_id=campaign.id, batch=batch, first=first, size=size, touched_at=now
            )
        )
        step_id = _insert_step(connection, queued, Step.ENQUEUE, author, now)
        count = count_customers(connection, queued)
        if count != size:
            raise JournalError(
                f"campaign {campaign.name}: messages {first} to {queued.last}:"
                f" got {count} customers; expected {size}"
            )
        insert_arrivals(database, connection, queued, step_id, now if at is None else at)
        entry = Entry(database, connection, queued, step_id, moved=size)
        entry._changes[QUEUED_STATE] += size
        entry.counters.add_transitions(Status.QUEUED, None, size)
        entry._finish()
    return queued


def _insert_step(
    connection: Connection,
    batch: Batch,
    step: Step,
    author: Author,
    started_at: Instant,
    check_times: Mapping[str, CheckTime] | None = None,
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
            check_times=encode_check_times(check_times or {}),
        )
        .returning(steps.c.id)
    ).scalar_one()
    return step_id


def _smallint_literal(value: int) -> sa.ColumnElement[int]:
    return sa.literal(int(value), sa.SmallInteger)
