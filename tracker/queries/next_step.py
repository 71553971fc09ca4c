"""What a batch needs next, as the record has it."""

from dataclasses import dataclass
from datetime import timedelta
from operator import itemgetter

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_timedelta
from tracker.record.catalog import Batch
from tracker.record.due import read_due_times
from tracker.status import Status, Step
from tracker.store.database import Database
from tracker.store.schema import messages, tallies, transitions

MIN_POLL_INTERVAL = timedelta(seconds=1)
"""How long to let a gateway be before asking again. Real time: it bounds the load of asking."""

MAX_COUNTDOWN = timedelta(minutes=1)
"""How long a task may wait at a worker. Real time."""


@dataclass(frozen=True)
class NextStep:
    """The step that a batch needs next, and how long to wait before it."""

    step: Step
    delay: timedelta = timedelta()


def next_step(database: Database, batch: Batch, completed: Step | None = None) -> NextStep | None:
    """What a batch needs next, from what the record says of it; None if it expects nothing more.

    ``completed`` is the step that was just done: the gateway is not asked the same without end.
    """
    query = sa.select(tallies.c.status, tallies.c.attempt).where(
        tallies.c.campaign_id == batch.campaign.id,
        tallies.c.batch == batch.batch,
        tallies.c.messages > 0,
    )
    with database.read() as connection:
        held = {(Status(status), attempt) for status, attempt in connection.execute(query)}
        known = read_due_times(connection, batch)
        waits_for_attempt = any(
            status is Status.SOFT_BOUNCED and attempt < batch.campaign.attempts
            for status, attempt in held
        )
        next_attempt_at = None
        if waits_for_attempt and batch.campaign.retry_after:
            next_attempt_at = _read_next_attempt_time(connection, batch)
    statuses = {status for status, _ in held}
    if Status.QUEUED in statuses:
        return NextStep(Step.SUPPRESS)
    if Status.ABOUT_TO_BE_SENT in statuses or (waits_for_attempt and next_attempt_at is None):
        return NextStep(Step.SUBMIT)
    dues = [
        (due, step)
        for due, step in (
            (next_attempt_at, Step.SUBMIT),
            (known.receipts_due_at, Step.DELIVER),
            (known.engagement_due_at, Step.ENGAGE),
        )
        if due is not None
    ]
    if not dues:
        return None
    due, step = min(dues, key=itemgetter(0))
    left = to_timedelta((due - batch.campaign.clock.now()) / batch.campaign.speed)
    asked_already = completed is step or (completed, step) == (Step.ENGAGE, Step.DELIVER)
    least = MIN_POLL_INTERVAL if asked_already else timedelta()
    return NextStep(step, min(max(left, least), MAX_COUNTDOWN))


def _read_next_attempt_time(connection: Connection, batch: Batch) -> Instant | None:
    """When the first message that bounced softly is to be offered again."""
    first: Instant | None = connection.scalar(
        sa.select(sa.func.min(soft_bounce_time())).where(
            *batch_conditions(batch),
            messages.c.status == Status.SOFT_BOUNCED,
            messages.c.attempt < batch.campaign.attempts,
        )
    )
    return None if first is None else first + batch.campaign.retry_after


def soft_bounce_time() -> sa.ScalarSelect[Instant]:
    """When a message came into its last soft bounce."""
    return (
        sa.select(transitions.c.at)
        .where(
            transitions.c.campaign_id == messages.c.campaign_id,
            transitions.c.status == Status.SOFT_BOUNCED,
            transitions.c.attempt == messages.c.attempt,
            transitions.c.number == messages.c.number,
        )
        .correlate(messages)
        .scalar_subquery()
    )


def batch_conditions(batch: Batch) -> tuple[sa.ColumnElement[bool], ...]:
    """Which messages are a batch's."""
    return (
        messages.c.campaign_id == batch.campaign.id,
        messages.c.number.between(batch.first, batch.last),
    )
