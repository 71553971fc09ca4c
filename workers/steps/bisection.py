"""A batch that breaks a step is taken apart, until the message that does it is alone.

What a step that raises or dies had in hand is a *part* of its batch, at first the whole. A part is
tried again, then halved; a message that breaks every try by itself is stopped, and the others go
on. Of a process that dies nothing is heard any more, so a try is put down before it begins, but for
the first one on a batch, of which everyone pays for nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.errors import SendtraceError
from tracker.queries.next_step import batch_conditions
from tracker.record.catalog import Batch
from tracker.record.journal import QUEUED_STATE, Author, Move, State, open_entry
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages
from tracker.store.schema.work import parts

BISECTABLE_STEPS = (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH, Step.SUBMIT)
"""The steps that can be done on a part. Receipts and engagement are a batch's as a whole."""

MAX_SEGMENT_TRIES, MAX_MESSAGE_TRIES = 1, 3
"""Tries that are put down before a part is halved, and before a message by itself is stopped."""

MAX_POISON_MESSAGES = 10
"""Messages of a batch that are stopped for breaking a step. When there are more, it is rather the
step that is broken: no more are stopped, and it is tried again less and less often."""

MAX_ERROR_LENGTH = 1_000
"""Characters of an error that are kept."""


class UnblockableMessage(SendtraceError):
    """A message that breaks a step can't be stopped."""


PROCESS_DIED = "the process that worked on it died, or was stopped for taking too long"


@dataclass(frozen=True)
class Segment:
    """A part of a batch on which a step is done apart, after so many ``tries``."""

    first: int
    size: int
    tries: int


@dataclass(frozen=True)
class ClaimedSegment:
    """A part that was taken up, as a batch that is narrowed down to it, and how often its batch was
    halved for it."""

    batch: Batch
    halvings: int


def load_open_segments(connection: Connection, batch: Batch, step: Step) -> list[Segment]:
    """The parts of a batch on which a step is still to be done; those that broke it, last."""
    query = (
        sa.select(parts.c.first, parts.c.size, parts.c.tries)
        .where(*_open_segment_conditions(batch, step))
        .order_by(parts.c.tries, parts.c.first)
    )
    return [Segment(*row) for row in connection.execute(query)]


def load_bisected_steps(connection: Connection, batch: Batch) -> set[str]:
    """The steps that are not done yet on all of a batch that was taken apart for them."""
    query = sa.select(parts.c.step).where(
        parts.c.campaign_id == batch.campaign.id,
        parts.c.batch == batch.batch,
        parts.c.ended_at.is_(None),
    )
    return set(connection.scalars(query))


def claim_segment(
    database: Database,
    batch: Batch,
    step: Step,
    author: Author,
    *,
    is_retry: bool,
    refund_first: int | None = None,
) -> ClaimedSegment | None:
    """The part of a batch that is to be worked on now, and put down as tried once more; None for
    all of it at once, if nothing speaks against that. ``is_retry``: it may have broken before. The
    part that begins with ``refund_first`` is given its last try back first.

    Raises :exc:`UnblockableMessage` where only a message is left that breaks the step and has to go on.
    """
    with database.read() as connection:
        known = load_open_segments(connection, batch, step)
    if not known and not is_retry:
        return None
    with database.write() as connection:
        _lock_batch(connection, batch)
        if refund_first is not None:
            _refund_try(connection, replace(batch, first=refund_first), step)
        part = _select_next_segment(connection, batch, step)
        if part is None:
            return None
        alone = replace(batch, first=part.first, size=1)
        broken = (
            part.size == 1
            and part.tries >= MAX_MESSAGE_TRIES
            and not _has_too_many_poison_messages(connection, batch, step)
        )
        if not broken:
            connection.execute(
                sa.update(parts)
                .where(*_open_segment_conditions(batch, step), parts.c.first == part.first)
                .values(tries=parts.c.tries + 1)
            )
    if broken:
        _mark_not_sent(database, alone, step, author)
        return claim_segment(database, batch, step, author, is_retry=False)
    halvings = (batch.size // part.size).bit_length() - 1
    return ClaimedSegment(replace(batch, first=part.first, size=part.size), halvings)


def _select_next_segment(connection: Connection, batch: Batch, step: Step) -> Segment | None:
    """The part that comes next; one that has been tried is halved first."""
    known = load_open_segments(connection, batch, step)
    if not known:
        known = _unblocked_segments(connection, batch, step)
        _insert_segments(connection, batch, step, known)
    if not known:
        return None
    part = known[0]
    if part.size == 1 or part.tries < MAX_SEGMENT_TRIES:
        return part
    half = part.size // 2
    halves = [Segment(part.first, half, 0), Segment(part.first + half, part.size - half, 0)]
    _delete_segment(connection, batch, step, part.first)
    _insert_segments(connection, batch, step, halves)
    return halves[0]


def _unblocked_segments(connection: Connection, batch: Batch, step: Step) -> list[Segment]:
    """All of a batch, but for the messages that were stopped for breaking the step."""
    query = sa.select(parts.c.first).where(
        *_segment_conditions(batch, step), parts.c.ended_at.is_not(None)
    )
    stopped = sorted(connection.scalars(query))
    begins = [batch.first, *(number + 1 for number in stopped)]
    ends = [*stopped, batch.last + 1]
    return [
        Segment(first, end - first, 0)
        for first, end in zip(begins, ends, strict=True)
        if first < end
    ]


def record_failure(
    database: Database, whole: Batch, segment: Batch, step: Step, error: BaseException
) -> bool:
    """Keep the error that a part was broken by, or all of a batch; whether it is to be tried again
    at once, and not by the sweep."""
    said = repr(error)[:MAX_ERROR_LENGTH]
    with database.write() as connection:
        _lock_batch(connection, whole)
        overrun = _has_too_many_poison_messages(connection, whole, step)
        if not overrun:
            _touch_batch(connection, whole)
        known = sa.update(parts).where(
            *_open_segment_conditions(whole, step), parts.c.first == segment.first
        )
        is_known = connection.execute(known.values(error=said)).rowcount
        # What somebody else has taken apart meanwhile is covered by those parts.
        if not is_known and not load_open_segments(connection, whole, step):
            _insert_segments(
                connection, whole, step, _unblocked_segments(connection, whole, step), said
            )
    return not overrun


def refund_try(database: Database, segment: Batch, step: Step) -> None:
    """Take a try back that came to no end for a reason outside, such as a service that is away."""
    with database.write() as connection:
        _refund_try(connection, segment, step)


def _refund_try(connection: Connection, segment: Batch, step: Step) -> None:
    connection.execute(
        sa.update(parts)
        .where(
            *_open_segment_conditions(segment, step),
            parts.c.first == segment.first,
            parts.c.tries > 0,
        )
        .values(tries=parts.c.tries - 1)
    )


SOURCE_STATUS = {Step.DISPATCH: Status.QUEUED, Step.SUBMIT: Status.ABOUT_TO_BE_SENT}
"""Where messages stay with which a step was not done, such as those beyond a gateway's rate."""


def complete_segment(database: Database, segment: Batch, step: Step) -> bool:
    """Note that a step is done on a part, if it is; whether others of its batch come next."""
    with database.write() as connection:
        _lock_batch(connection, segment)
        _touch_batch(connection, segment)
        left = sa.exists().where(
            *batch_conditions(segment), messages.c.status == SOURCE_STATUS.get(step)
        )
        if step in SOURCE_STATUS and connection.scalar(sa.select(left)):
            _refund_try(connection, segment, step)
            return False
        _delete_segment(connection, segment, step, segment.first)
        return bool(load_open_segments(connection, segment, step))


def _mark_not_sent(database: Database, alone: Batch, step: Step, author: Author) -> None:
    """Stop a message that breaks every try by itself; :exc:`UnblockableMessage` where that can't be."""
    now = alone.campaign.clock.now()
    stopped = State(status=Status.NOT_SENT, reason=Reason.TIMEOUT)
    waiting = State(status=Status.ABOUT_TO_BE_SENT) if step is Step.SUBMIT else QUEUED_STATE
    with open_entry(database, alone, step, author, started_at=now) as written:
        written.move(Move(numbers=[alone.first], source=waiting, target=stopped, at=now))
        if step is Step.SUBMIT and _is_soft_bounced(written.connection, alone):
            raise UnblockableMessage(
                f"message {alone.first} of campaign {alone.campaign.name} breaks {step}, and can't"
                " be stopped: an earlier attempt of it was sent"
            )
        written.connection.execute(
            sa.update(parts)
            .where(*_segment_conditions(alone, step), parts.c.first == alone.first)
            .values(ended_at=now, error=sa.func.coalesce(parts.c.error, PROCESS_DIED))
        )


def _has_too_many_poison_messages(connection: Connection, batch: Batch, step: Step) -> bool:
    ended = sa.select(sa.func.count()).where(
        *_segment_conditions(batch, step), parts.c.ended_at.is_not(None)
    )
    return (connection.scalar(ended) or 0) >= MAX_POISON_MESSAGES


def _open_segment_conditions(batch: Batch, step: Step) -> tuple[sa.ColumnElement[bool], ...]:
    return (*_segment_conditions(batch, step), parts.c.ended_at.is_(None))


def _lock_batch(connection: Connection, batch: Batch) -> None:
    """Who takes apart the same batch at the same time waits here, until this is committed."""
    connection.execute(
        sa.select(batches.c.batch)
        .where(batches.c.campaign_id == batch.campaign.id, batches.c.batch == batch.batch)
        .with_for_update()
    )


def _is_soft_bounced(connection: Connection, alone: Batch) -> bool:
    status = connection.scalar(sa.select(messages.c.status).where(*batch_conditions(alone)))
    return status == Status.SOFT_BOUNCED


def _segment_conditions(batch: Batch, step: Step) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        parts.c.campaign_id == batch.campaign.id,
        parts.c.batch == batch.batch,
        parts.c.step == step,
    )


def _touch_batch(connection: Connection, batch: Batch) -> None:
    """Whoever takes apart is alive: the sweep sees that."""
    connection.execute(
        sa.update(batches)
        .where(batches.c.campaign_id == batch.campaign.id, batches.c.batch == batch.batch)
        .values(touched_at=batch.campaign.clock.now())
    )


def _insert_segments(
    connection: Connection,
    batch: Batch,
    step: Step,
    new: Sequence[Segment],
    error: str | None = None,
) -> None:
    if not new:
        return
    _touch_batch(connection, batch)
    connection.execute(
        sa.insert(parts),
        [
            {
                "campaign_id": batch.campaign.id,
                "batch": batch.batch,
                "step": step,
                "first": part.first,
                "size": part.size,
                "tries": part.tries,
                "error": error,
            }
            for part in new
        ],
    )


def _delete_segment(connection: Connection, batch: Batch, step: Step, first: int) -> None:
    connection.execute(
        sa.delete(parts).where(*_open_segment_conditions(batch, step), parts.c.first == first)
    )
