"""Decide the next step of a batch from the record alone.

A task carries no state. After each step, and in the sweep, the next step is derived from the
batch's tallies, its due times, its recorded check steps and their open segments. A repeated or
lost task can therefore neither fork nor break the chain of steps.

This module is the only place that decides it. `decide_step` is a pure function of what was read
for one batch. `tracker.queries.pending_batches` has the same decision as an SQL condition, for
queries that look at many batches. A test holds the two against each other for every state of a
batch.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from operator import attrgetter

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_run_microseconds, to_timedelta
from tracker.queries.retries import retry_due_time
from tracker.record.actions.submissions import has_open_submission
from tracker.record.catalog import Batch, Campaign
from tracker.record.predicates import (
    has_open_segments,
    is_of_batch,
    is_of_message_in,
    is_same_batch,
)
from tracker.status import IN_PROGRESS_STATUSES, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages, tallies
from tracker.store.schema.work import steps

MIN_POLL_INTERVAL = timedelta(seconds=1)
"""Shortest real time between two polls of a gateway for the same batch, or between two dispatches
of its deferred messages; limits the load."""

MAX_COUNTDOWN = timedelta(minutes=1)
"""Longest real time that a task waits in a worker. Longer waits are left to the sweep."""

REPEATED_POLLS = (
    (Step.DELIVER, Step.DELIVER),
    (Step.ENGAGE, Step.ENGAGE),
    (Step.ENGAGE, Step.DELIVER),
    (Step.DISPATCH, Step.DISPATCH),
    (Step.DELIVER, Step.DISPATCH),
    (Step.ENGAGE, Step.DISPATCH),
)
"""Steps, completed and next, between which MIN_POLL_INTERVAL passes.

Every cycle of these steps contains such a pair. Otherwise, a gateway without news, or a rule that
defers messages for a moment, again and again, would keep a worker busy.
"""

CHECK_CHAIN = (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH)
"""Steps that process queued messages, in their order: two check steps, and dispatch."""

CHECK_STEPS = CHECK_CHAIN[:-1]
"""Steps that must be done with a whole batch before any message of it is dispatched."""

PAUSED_STEPS = (*CHECK_CHAIN, Step.SUBMIT)
"""Steps that aren't done while a campaign is paused. What is in the gateway goes on."""


def is_held(campaign: Campaign, step: Step) -> bool:
    """Return whether a step isn't done on batches of a campaign, since it is paused or cancelled.

    Step `submit` cancels what is left of a batch.
    """
    if campaign.cancelled_at is not None:
        return step in CHECK_CHAIN
    return campaign.paused_at is not None and step in PAUSED_STEPS


@dataclass(frozen=True)
class NextStep:
    """The step that a batch needs next, and the real time to wait before it."""

    step: Step
    delay: timedelta = timedelta()


@dataclass(frozen=True)
class DueStep:
    """A step that a batch needs, with the instant from which it can be done.

    Attributes:
        due_at: instant of the campaign's clock; None for a step that waits for nothing.
    """

    step: Step
    due_at: Instant | None = None


@dataclass(frozen=True, kw_only=True)
class BatchState:
    """The recorded state of a batch that decides its next step.

    Attributes:
        occupied: the (status, attempt) pairs that hold at least one message of the batch.
        attempts: number of attempts that the campaign allows.
        completed_checks: check steps that are done with the whole batch.
        retry_due_at: when soft-bounced messages may be submitted again; None for at once.
        receipts_due_at: when the gateway may have receipts; None if none are expected.
        engagement_due_at: when the gateway may have engagement; None if none is expected.
        deferral_due_at: when the first queued message is judged again; None unless all of them are
            deferred.
        is_paused: whether the campaign is paused.
        is_cancelled: whether the campaign is cancelled.
        has_open_submission: whether the gateway may have messages of a cancelled campaign that the
            record doesn't know to be there.
    """

    occupied: Collection[tuple[Status, int]]
    attempts: int
    completed_checks: Collection[Step] = frozenset()
    retry_due_at: Instant | None = None
    receipts_due_at: Instant | None = None
    engagement_due_at: Instant | None = None
    deferral_due_at: Instant | None = None
    is_paused: bool = False
    is_cancelled: bool = False
    has_open_submission: bool = False

    @property
    def statuses(self) -> frozenset[Status]:
        """The statuses of the batch's messages."""
        return frozenset(status for status, _ in self.occupied)

    @property
    def has_retries(self) -> bool:
        """True if a soft-bounced message has attempts left."""
        return any(
            status is Status.SOFT_BOUNCED and attempt < self.attempts
            for status, attempt in self.occupied
        )


def decide_step(state: BatchState) -> DueStep | None:
    """Return the step that a batch needs next, or None when the batch has settled.

    Queued messages come first: they need the first check step that isn't done with the whole batch,
    or dispatch, unless all of them are deferred. Then comes submission. Otherwise the step with the
    earliest due time is next; deferred messages are due for dispatch. A batch of a paused campaign
    needs none of PAUSED_STEPS. One of a cancelled campaign needs submission, which cancels what is
    left, and never a retry.
    """
    due_times = {Step.DELIVER: state.receipts_due_at, Step.ENGAGE: state.engagement_due_at}
    if state.is_cancelled:
        is_left = not IN_PROGRESS_STATUSES.isdisjoint(state.statuses)
        is_left |= state.has_open_submission
        return DueStep(Step.SUBMIT) if is_left else _find_earliest(due_times)
    if state.is_paused:
        return _find_earliest(due_times)
    if Status.QUEUED in state.statuses:
        remaining = (step for step in CHECK_STEPS if step not in state.completed_checks)
        step = next(remaining, Step.DISPATCH)
        if step is not Step.DISPATCH or state.deferral_due_at is None:
            return DueStep(step)
    can_retry_now = state.has_retries and state.retry_due_at is None
    if Status.ABOUT_TO_BE_SENT in state.statuses or can_retry_now:
        return DueStep(Step.SUBMIT)
    submit_due_at = state.retry_due_at if state.has_retries else None
    first = {Step.DISPATCH: state.deferral_due_at, Step.SUBMIT: submit_due_at}
    return _find_earliest(first | due_times)


def _find_earliest(due_times: Mapping[Step, Instant | None]) -> DueStep | None:
    """Return the step with the earliest due time, the first of those with the same."""
    due_steps = [DueStep(step, due) for step, due in due_times.items() if due is not None]
    return min(due_steps, key=attrgetter("due_at"), default=None)


def next_step(
    database: Database, batch: Batch, *, completed: Step | None = None
) -> NextStep | None:
    """Return the next step of a batch, or None when it has settled or only the sweep may wake it.

    The sweep wakes a batch whose deferred messages wait for longer than a task may wait in a
    worker. If the `completed` step and the next one are in REPEATED_POLLS, the result is delayed
    by at least MIN_POLL_INTERVAL.
    """
    with database.read() as connection:
        due_step = decide_step(read_batch_state(connection, batch))
    if due_step is None:
        return None
    if due_step.due_at is None:
        return NextStep(due_step.step)
    campaign = batch.campaign
    due_in = to_timedelta((due_step.due_at - campaign.clock.now()) / campaign.speed)
    if due_step.step is Step.DISPATCH and due_in > MAX_COUNTDOWN:
        return None
    min_delay = timedelta()
    if (completed, due_step.step) in REPEATED_POLLS:
        min_delay = MIN_POLL_INTERVAL
    return NextStep(due_step.step, min(max(due_in, min_delay), MAX_COUNTDOWN))


def next_step_while_throttled(
    database: Database, batch: Batch, *, submit_delay: timedelta
) -> NextStep:
    """Return the next step of a batch of which the gateway has accepted only some messages.

    A step that has been due for MIN_POLL_INTERVAL goes before the rest of the submission. So a slow
    submission doesn't delay deferred messages, receipts and engagement. The gateway
    accepts more after the real time `submit_delay`.
    """
    with database.read() as connection:
        state = read_batch_state(connection, batch)
    campaign = batch.campaign
    latest = campaign.clock.now() - to_run_microseconds(MIN_POLL_INTERVAL, campaign.speed)
    if state.deferral_due_at is not None and state.deferral_due_at <= latest:
        return NextStep(Step.DISPATCH)
    if state.receipts_due_at is not None and state.receipts_due_at <= latest:
        return NextStep(Step.DELIVER)
    if state.engagement_due_at is not None and state.engagement_due_at <= latest:
        return NextStep(Step.ENGAGE)
    return NextStep(Step.SUBMIT, submit_delay)


def read_batch_state(connection: Connection, batch: Batch) -> BatchState:
    """Return the recorded state of a batch that decides its next step."""
    has_messages = sa.and_(is_same_batch(tallies, batches), tallies.c.messages > 0)
    columns = (
        *(batches.c.receipts_due_at, batches.c.engagement_due_at),
        *(batches.c.deferral_due_at, batches.c.deferred),
    )
    rows = connection.execute(
        sa.select(tallies.c.status, tallies.c.attempt, tallies.c.messages, *columns)
        .select_from(batches.outerjoin(tallies, has_messages))
        .where(is_of_batch(batches, batch))
    ).all()
    queued = sum(row.messages for row in rows if row.status == Status.QUEUED)
    state = BatchState(
        occupied=frozenset(
            (Status(row.status), row.attempt) for row in rows if row.status is not None
        ),
        attempts=batch.campaign.attempts,
        receipts_due_at=rows[0].receipts_due_at,
        engagement_due_at=rows[0].engagement_due_at,
        deferral_due_at=deferral_due_time(queued, rows[0].deferred, rows[0].deferral_due_at),
        is_paused=batch.campaign.paused_at is not None,
        is_cancelled=batch.campaign.cancelled_at is not None,
    )
    if state.is_cancelled:
        submission = has_open_submission(batches.c.campaign_id, batches.c.batch)
        query = sa.select(batches.c.batch).where(is_of_batch(batches, batch), submission)
        return replace(state, has_open_submission=connection.scalar(query) is not None)
    if Status.QUEUED in state.statuses:
        completed_checks = read_completed_checks(
            connection, batch.campaign.id, batch.batch, batch.batch
        )
        state = replace(state, completed_checks=completed_checks[batch.batch])
        if state.deferral_due_at is None:
            return state
    if state.has_retries and batch.campaign.retry_after:
        return replace(state, retry_due_at=_read_retry_due_time(connection, batch))
    return state


def deferral_due_time(queued: int, deferred: int, due_at: Instant | None) -> Instant | None:
    """Return when the first deferred message is due, or None if other messages are queued too."""
    return due_at if deferred >= queued else None


def read_completed_checks(
    connection: Connection, campaign_id: int, first_batch: int, last_batch: int
) -> defaultdict[int, set[Step]]:
    """Return by batch the check steps that are recorded and have no open segments."""
    query = (
        sa.select(steps.c.batch, steps.c.step)
        .where(
            steps.c.campaign_id == campaign_id,
            steps.c.batch.between(first_batch, last_batch),
            steps.c.step.in_(CHECK_STEPS),
            ~has_open_segments(),
        )
        .distinct()
    )
    completed: defaultdict[int, set[Step]] = defaultdict(set)
    for batch, step in connection.execute(query):
        completed[batch].add(Step(step))
    return completed


def _read_retry_due_time(connection: Connection, batch: Batch) -> Instant | None:
    """Return when the first soft-bounced message may be submitted again."""
    first: Instant | None = connection.scalar(
        sa.select(sa.func.min(retry_due_time(batch.campaign))).where(
            is_of_message_in(messages, batch),
            messages.c.status == Status.SOFT_BOUNCED,
            messages.c.attempt < batch.campaign.attempts,
        )
    )
    return first
