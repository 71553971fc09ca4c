"""Invariant queries for messages, transitions, tallies, batches and steps.

Each function returns a query for the wrong rows of some campaigns. The queries read whole tables,
so their cost is the number of passes over each table.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Select

from tracker.record.predicates import is_of_recorded_batch, is_same_message, is_same_transition
from tracker.status import IN_PROGRESS_STATUSES, LEGAL_TRANSITIONS, Reason, Status
from tracker.store.schema.catalog import audiences, batches, campaigns, customers, runs
from tracker.store.schema.messages import NO_REASON, messages, tallies, transitions
from tracker.store.schema.work import steps

NO_STATUS = -1
"""Code of a transition's previous status, if it has none."""

MAX_CLOCK_SKEW_MICROSECONDS = 1_000_000
"""Real time by which the clocks of two workers' computers may differ."""


def _scaled_clock_skew(ids: Sequence[int]) -> sa.ScalarSelect[Any]:
    """Return the tolerated clock skew in microseconds of the campaigns' clock."""
    return (
        sa.select(MAX_CLOCK_SKEW_MICROSECONDS * sa.func.max(runs.c.speed))
        .join(campaigns, campaigns.c.run_id == runs.c.id)
        .where(campaigns.c.id.in_(ids))
        .scalar_subquery()
    )


def _previous_attempt() -> sa.ColumnElement[int]:
    """Return the SQL expression for the attempt of the status that a transition left."""
    return sa.case(
        (transitions.c.previous.in_(IN_PROGRESS_STATUSES), 0),
        (transitions.c.status == Status.IN_GATEWAY, transitions.c.attempt - 1),
        else_=transitions.c.attempt,
    )


def find_wrong_tallies(ids: Sequence[int]) -> Select[Any]:
    """Return a query for tallies that differ from the number of messages in their state."""
    state = ("status", "reason", "attempt")
    counted = (
        sa.select(
            batches.c.campaign_id,
            batches.c.batch,
            *(messages.c[column] for column in state),
            sa.func.count().label("messages"),
            sa.literal(0).label("tallied"),
        )
        .join(messages, is_of_recorded_batch(messages))
        .where(batches.c.campaign_id.in_(ids))
        .group_by(batches.c.campaign_id, batches.c.batch, *(messages.c[column] for column in state))
    )
    tallied = sa.select(
        tallies.c.campaign_id,
        tallies.c.batch,
        *(tallies.c[column] for column in state),
        sa.literal(0),
        tallies.c.messages,
    ).where(tallies.c.campaign_id.in_(ids))
    key = ("campaign_id", "batch", *state)
    return select_differing_sums(sa.union_all(counted, tallied), key, "messages", "tallied")


def select_differing_sums(
    both: sa.CompoundSelect[Any], key: Sequence[str], one: str, other: str
) -> Select[Any]:
    """Return a query for the keys by which the sums of two columns differ, with both sums."""
    rows = both.subquery()
    columns = [rows.c[column] for column in key]
    first, second = sa.func.sum(rows.c[one]), sa.func.sum(rows.c[other])
    return (
        sa.select(*columns, first.label(one), second.label(other))
        .group_by(*columns)
        .having(first != second)
        .order_by(*columns)
    )


def find_states_without_transition(ids: Sequence[int]) -> Select[Any]:
    """Return a query for messages whose state or reason no transition led to."""
    return (
        sa.select(
            messages.c.campaign_id,
            messages.c.number,
            messages.c.status,
            messages.c.attempt,
            messages.c.reason,
            transitions.c.reason.label("recorded_reason"),
        )
        .outerjoin(transitions, is_same_transition(transitions, messages))
        .where(
            messages.c.campaign_id.in_(ids),
            sa.or_(transitions.c.number.is_(None), transitions.c.reason != messages.c.reason),
        )
        .order_by(messages.c.campaign_id, messages.c.number)
    )


def find_unbalanced_flows(ids: Sequence[int]) -> Select[Any]:
    """Return a query for states that don't hold what entered them minus what left them."""
    none = sa.literal(0)
    entered = (
        sa.select(
            transitions.c.campaign_id,
            transitions.c.status,
            transitions.c.attempt,
            sa.func.count().label("entered"),
            none.label("left"),
            none.label("there"),
        )
        .where(transitions.c.campaign_id.in_(ids))
        .group_by(transitions.c.campaign_id, transitions.c.status, transitions.c.attempt)
    )
    before = _previous_attempt()
    left = (
        sa.select(
            transitions.c.campaign_id, transitions.c.previous, before, none, sa.func.count(), none
        )
        .where(transitions.c.campaign_id.in_(ids), transitions.c.previous.is_not(None))
        .group_by(transitions.c.campaign_id, transitions.c.previous, before)
    )
    there = (
        sa.select(
            messages.c.campaign_id,
            messages.c.status,
            messages.c.attempt,
            none,
            none,
            sa.func.count(),
        )
        .where(messages.c.campaign_id.in_(ids))
        .group_by(messages.c.campaign_id, messages.c.status, messages.c.attempt)
    )
    flow = sa.union_all(entered, left, there).subquery()
    key = [flow.c.campaign_id, flow.c.status, flow.c.attempt]
    sums = {column: sa.func.sum(flow.c[column]) for column in ("entered", "left", "there")}
    return (
        sa.select(*key, *(total.label(column) for column, total in sums.items()))
        .group_by(*key)
        .having(sums["entered"] - sums["left"] != sums["there"])
        .order_by(*key)
    )


def find_illegal_transitions(ids: Sequence[int]) -> Select[Any]:
    """Return a query for illegal transitions, and those that continue no earlier one."""
    earlier = transitions.alias("earlier")
    legal = sa.or_(
        *(
            sa.and_(
                # A comparison with NULL would be neither true nor false.
                sa.func.coalesce(transitions.c.previous, NO_STATUS)
                == (NO_STATUS if source is None else source),
                transitions.c.status.in_(targets),
            )
            for source, targets in LEGAL_TRANSITIONS.items()
            if targets
        )
    )
    return (
        sa.select(
            transitions.c.campaign_id,
            transitions.c.number,
            transitions.c.attempt,
            transitions.c.previous,
            transitions.c.status,
            transitions.c.reason,
            (transitions.c.at - earlier.c.at).label("microseconds_later"),
        )
        .outerjoin(
            earlier,
            sa.and_(
                is_same_message(earlier, transitions),
                earlier.c.status == transitions.c.previous,
                earlier.c.attempt == _previous_attempt(),
            ),
        )
        .where(
            transitions.c.campaign_id.in_(ids),
            sa.or_(
                sa.not_(legal),
                sa.and_(transitions.c.previous.is_not(None), earlier.c.number.is_(None)),
                transitions.c.at < earlier.c.at - _scaled_clock_skew(ids),
                sa.and_(transitions.c.status != Status.NOT_SENT, transitions.c.reason != NO_REASON),
            ),
        )
        .order_by(transitions.c.campaign_id, transitions.c.number)
    )


def find_miscounted_steps(ids: Sequence[int]) -> Select[Any]:
    """Return a query for steps with more, fewer or later transitions than they recorded."""
    none = sa.literal(0, sa.BigInteger)
    moved = (
        sa.select(
            transitions.c.campaign_id,
            transitions.c.step_id,
            sa.func.count().label("transitions"),
            none.label("moved"),
            sa.func.max(transitions.c.at).label("last_at"),
            none.label("finished_at"),
        )
        .where(transitions.c.campaign_id.in_(ids))
        .group_by(transitions.c.campaign_id, transitions.c.step_id)
    )
    recorded = sa.select(
        steps.c.campaign_id, steps.c.id, none, steps.c.moved, none, steps.c.finished_at
    ).where(steps.c.campaign_id.in_(ids))
    both = sa.union_all(moved, recorded).subquery()
    key = [both.c.campaign_id, both.c.step_id]
    transitions_sum, moved_sum = sa.func.sum(both.c.transitions), sa.func.sum(both.c.moved)
    last_at, finished_at = sa.func.max(both.c.last_at), sa.func.max(both.c.finished_at)
    return (
        sa.select(
            *key,
            transitions_sum.label("transitions"),
            moved_sum.label("moved"),
            (last_at - finished_at).label("microseconds_too_late"),
        )
        .group_by(*key)
        .having(
            sa.or_(transitions_sum != moved_sum, last_at > finished_at + _scaled_clock_skew(ids))
        )
        .order_by(*key)
    )


def find_wrong_reasons(ids: Sequence[int]) -> Select[Any]:
    """Return a query for messages that lack their reason, or have one that they must not have."""
    is_not_sent = messages.c.status == Status.NOT_SENT
    return (
        sa.select(messages.c.campaign_id, messages.c.number, messages.c.status, messages.c.reason)
        .where(
            messages.c.campaign_id.in_(ids),
            sa.or_(
                sa.and_(is_not_sent, messages.c.reason.not_in(Reason)),
                sa.and_(~is_not_sent, messages.c.reason != NO_REASON),
            ),
        )
        .order_by(messages.c.campaign_id, messages.c.number)
    )


def find_batch_gaps_and_overlaps(ids: Sequence[int]) -> Select[Any]:
    """Return a query for batches that don't begin where the previous one ends."""
    end = batches.c.first + batches.c.size
    before = (
        sa.func.lag(end, 1, 0)
        .over(partition_by=batches.c.campaign_id, order_by=batches.c.first)
        .label("expected_first")
    )
    lined_up = (
        sa.select(batches.c.campaign_id, batches.c.batch, batches.c.first, before)
        .where(batches.c.campaign_id.in_(ids))
        .subquery()
    )
    return sa.select(lined_up).where(lined_up.c.first != lined_up.c.expected_first)


def find_uncovered_audiences(ids: Sequence[int]) -> Select[Any]:
    """Return a query for finished campaigns with more or fewer messages than customers."""
    covered = (
        sa.select(batches.c.campaign_id, sa.func.sum(batches.c.size).label("messages"))
        .where(batches.c.campaign_id.in_(ids))
        .group_by(batches.c.campaign_id)
        .subquery()
    )
    message_count = sa.func.coalesce(covered.c.messages, 0)
    return (
        sa.select(
            campaigns.c.id.label("campaign_id"),
            audiences.c.size.label("customers"),
            message_count.label("messages"),
        )
        .join(runs, runs.c.id == campaigns.c.run_id)
        .join(audiences, audiences.c.id == campaigns.c.audience_id)
        .outerjoin(covered, covered.c.campaign_id == campaigns.c.id)
        .where(
            campaigns.c.id.in_(ids),
            runs.c.finished_at.is_not(None),
            audiences.c.size != message_count,
        )
        .order_by(campaigns.c.id)
    )


def find_wrong_audience_sizes(ids: Sequence[int]) -> Select[Any]:
    """Return a query for audiences whose recorded size isn't the number of their customers."""
    audience_ids = sa.select(campaigns.c.audience_id).where(campaigns.c.id.in_(ids))
    people = (
        sa.select(customers.c.audience_id, sa.func.count().label("customers"))
        .where(customers.c.audience_id.in_(audience_ids))
        .group_by(customers.c.audience_id)
        .subquery()
    )
    count = sa.func.coalesce(people.c.customers, 0)
    return (
        sa.select(audiences.c.id.label("audience_id"), audiences.c.size, count.label("customers"))
        .outerjoin(people, people.c.audience_id == audiences.c.id)
        .where(audiences.c.id.in_(audience_ids), audiences.c.size != count)
        .order_by(audiences.c.id)
    )


def find_messages_without_customer(ids: Sequence[int]) -> Select[Any]:
    """Return a query for messages without a customer of the same number."""
    # Unlike a join, a set difference is fast whatever the planner's statistics say.
    numbers = sa.select(messages.c.campaign_id, messages.c.number).where(
        messages.c.campaign_id.in_(ids)
    )
    people = (
        sa.select(campaigns.c.id, customers.c.number)
        .join(customers, customers.c.audience_id == campaigns.c.audience_id)
        .where(campaigns.c.id.in_(ids))
    )
    missing = sa.except_(numbers, people).subquery()
    return sa.select(missing).order_by(missing.c.campaign_id, missing.c.number)
