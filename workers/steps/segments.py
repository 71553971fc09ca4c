"""Segments: the ranges of a batch's messages on which a step runs separately after it failed.

A segment is open until its step is done with it; then its row is deleted. The segment of a poison
message, which failed every try, keeps its row with the time at which the message was blocked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.record.catalog import Batch
from tracker.record.predicates import is_of_batch
from tracker.status import Step
from tracker.store.schema.catalog import batches
from tracker.store.schema.work import parts

PROCESS_DIED = "the process that worked on it died, or was stopped for taking too long"


@dataclass(frozen=True)
class Segment:
    """Messages `first` … `first + size - 1` of a batch, on which a step was tried `tries` times."""

    first: int
    size: int
    tries: int = 0

    def halves(self) -> "list[Segment]":
        """Return the two halves, neither of which was tried yet."""
        half = self.size // 2
        return [Segment(self.first, half), Segment(self.first + half, self.size - half)]


@dataclass(frozen=True)
class SegmentStore:
    """The segments of one batch and step, within one transaction."""

    connection: Connection
    batch: Batch
    step: Step

    def lock_batch(self) -> None:
        """Make other transactions that bisect the batch wait until this one ends."""
        self.connection.execute(
            sa.select(batches.c.batch).where(is_of_batch(batches, self.batch)).with_for_update()
        )

    def touch_batch(self) -> None:
        """Show the sweep that a worker is busy with the batch."""
        self.connection.execute(
            sa.update(batches)
            .where(is_of_batch(batches, self.batch))
            .values(touched_at=self.batch.campaign.clock.now())
        )

    def load_open(self) -> list[Segment]:
        """Return the open segments, those with the fewest tries first."""
        query = (
            sa.select(parts.c.first, parts.c.size, parts.c.tries)
            .where(*self._open_conditions())
            .order_by(parts.c.tries, parts.c.first)
        )
        return [Segment(*row) for row in self.connection.execute(query)]

    def load_poison_numbers(self) -> list[int]:
        """Return the numbers of the messages that were blocked for failing the step."""
        query = sa.select(parts.c.first).where(*self._conditions(), parts.c.ended_at.is_not(None))
        return list(self.connection.scalars(query.order_by(parts.c.first)))

    def unblocked(self) -> list[Segment]:
        """Return the batch as segments that leave out its poison messages."""
        poison = self.load_poison_numbers()
        starts = [self.batch.first, *(number + 1 for number in poison)]
        ends = [*poison, self.batch.last + 1]
        return [
            Segment(start, end - start)
            for start, end in zip(starts, ends, strict=True)
            if start < end
        ]

    def insert(self, segments: Sequence[Segment], error: str | None = None) -> None:
        """Add open segments, with the error that made them necessary if it is known."""
        if not segments:
            return
        self.touch_batch()
        key = {
            "campaign_id": self.batch.campaign.id,
            "batch": self.batch.batch,
            "step": self.step,
            "error": error,
        }
        rows = [
            {**key, "first": segment.first, "size": segment.size, "tries": segment.tries}
            for segment in segments
        ]
        self.connection.execute(sa.insert(parts), rows)

    def delete(self, first: int) -> None:
        """Delete the open segment that starts at message `first`."""
        self.connection.execute(sa.delete(parts).where(*self._open_conditions(first)))

    def add_try(self, first: int) -> None:
        """Count one more try of the open segment that starts at message `first`."""
        self._update(first, tries=parts.c.tries + 1)

    def refund_try(self, first: int) -> None:
        """Take back one try of the open segment that starts at message `first`."""
        self._update(first, tries=sa.case((parts.c.tries > 0, parts.c.tries - 1), else_=0))

    def record_error(self, first: int, error: str | None) -> bool:
        """Record the error of an open segment; return False if there is no such segment."""
        return self._update(first, error=error)

    def mark_poison(self, number: int, at: Instant) -> str:
        """Close the segment of a message that is blocked for failing the step; return its error."""
        self._update(number, ended_at=at, error=sa.func.coalesce(parts.c.error, PROCESS_DIED))
        query = sa.select(parts.c.error).where(*self._conditions(), parts.c.first == number)
        return str(self.connection.scalars(query).one())

    def _update(self, first: int, **values: object) -> bool:
        update = sa.update(parts).where(*self._open_conditions(first)).values(**values)
        return bool(self.connection.execute(update).rowcount)

    def _conditions(self) -> tuple[sa.ColumnElement[bool], ...]:
        return (is_of_batch(parts, self.batch), parts.c.step == self.step)

    def _open_conditions(self, first: int | None = None) -> tuple[sa.ColumnElement[bool], ...]:
        conditions = (*self._conditions(), parts.c.ended_at.is_(None))
        return conditions if first is None else (*conditions, parts.c.first == first)
