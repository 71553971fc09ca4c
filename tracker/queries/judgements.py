"""Read how each message was judged: its recorded reason, the check, and the instants of judging."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from tracker.clock import Instant
from tracker.queries.next_step import CHECK_CHAIN
from tracker.record.catalog import Campaign
from tracker.record.predicates import is_same_batch
from tracker.status import Reason, Status, Step
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages, transition_details, transitions
from tracker.store.schema.work import steps


class StepRun(NamedTuple):
    """A recorded run of a step on a batch; `id` grows with each."""

    id: int
    started_at: Instant
    finished_at: Instant


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict on a message, and the runs of steps that judged it.

    Attributes:
        reason: the reason for which it is Not Sent; None if it isn't.
        check_name: the check that blocked it; None if its reason says which.
        step: the step that blocked it; None if it isn't Not Sent.
        runs: the runs of the check steps and of dispatch that judged it, or would have judged it
            if no earlier step had blocked it. A step that hasn't run is missing.
    """

    number: int
    reason: Reason | None
    check_name: str | None
    step: Step | None
    runs: Mapping[Step, StepRun]


def read_judgements(
    connection: Connection, campaign: Campaign, first: int, last: int
) -> list[Judgement]:
    """Return how the messages `first` to `last` of a campaign were judged, by their numbers."""
    query = (
        sa.select(batches.c.first, batches.c.batch)
        .where(
            batches.c.campaign_id == campaign.id,
            batches.c.first <= last,
            batches.c.first + batches.c.size > first,
        )
        .order_by(batches.c.first)
    )
    batch_starts = connection.execute(query).all()
    starts = [row.first for row in batch_starts]
    runs_by_batch = _read_step_runs(connection, campaign, first, last)
    rows = connection.execute(_messages_query(campaign, first, last)).all()
    judgements = []
    for row in rows:  # joined here, since no index finds the batch of a message
        batch = batch_starts[bisect_right(starts, row.number) - 1].batch
        judgements.append(_make_judgement(row, runs_by_batch.get(batch, {})))
    return judgements


def _messages_query(campaign: Campaign, first: int, last: int) -> "sa.Select[Any]":
    blocked, dispatched = transitions.alias("blocked"), transitions.alias("dispatched")
    details, blocking = transition_details.alias("details"), steps.alias("blocking")

    def is_transition(table: sa.FromClause, status: Status) -> sa.ColumnElement[bool]:
        return sa.and_(
            table.c.campaign_id == campaign.id,
            table.c.status == status,
            table.c.attempt == 0,
            table.c.number == messages.c.number,
        )

    return (
        sa.select(
            messages.c.number,
            blocked.c.reason,
            blocked.c.step_id.label("blocked_by"),
            blocking.c.step,
            details.c.check_name,
            dispatched.c.step_id.label("dispatched_by"),
        )
        .outerjoin(blocked, is_transition(blocked, Status.NOT_SENT))
        .outerjoin(blocking, blocking.c.id == blocked.c.step_id)
        .outerjoin(details, is_transition(details, Status.NOT_SENT))
        .outerjoin(dispatched, is_transition(dispatched, Status.ABOUT_TO_BE_SENT))
        .where(messages.c.campaign_id == campaign.id, messages.c.number.between(first, last))
        .order_by(messages.c.number)
    )


def _read_step_runs(
    connection: Connection, campaign: Campaign, first: int, last: int
) -> Mapping[int, Mapping[Step, Sequence[StepRun]]]:
    """Return the runs of the steps before the gateway, by batch and step, in their order."""
    query = (
        sa.select(steps.c.batch, steps.c.step, *(steps.c[name] for name in StepRun._fields))
        .join(batches, is_same_batch(batches, steps))
        .where(
            steps.c.campaign_id == campaign.id,
            steps.c.step.in_(CHECK_CHAIN),
            batches.c.first <= last,
            batches.c.first + batches.c.size > first,
        )
        .order_by(steps.c.id)
    )
    runs: defaultdict[int, defaultdict[Step, list[StepRun]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for batch, step, *values in connection.execute(query):
        runs[batch][Step(step)].append(StepRun(*values))
    return runs


def _make_judgement(row: Row[Any], runs: Mapping[Step, Sequence[StepRun]]) -> Judgement:
    step = None if row.step is None else Step(row.step)
    left_by = {run for run in (row.blocked_by, row.dispatched_by) if run is not None}
    return Judgement(
        number=row.number,
        reason=None if row.reason is None else Reason(row.reason),
        check_name=row.check_name,
        step=step,
        runs={name: _select_run(named, left_by) for name, named in runs.items()},
    )


def _select_run(runs: Sequence[StepRun], left_by: Collection[int]) -> StepRun:
    """Return the run of a step that decided on a message.

    That is the last one before the message left the queue: a message that waits is judged again.

    Args:
        runs: the step's runs on the batch.
        left_by: the runs that moved the message out of the queue and beyond; empty if none did.
    """
    if not left_by or len(runs) == 1:
        return runs[-1]
    while_queued = [run for run in runs if run.id <= min(left_by)]
    return while_queued[-1] if while_queued else runs[0]
