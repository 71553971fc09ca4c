"""Queries for the rows that violate the record's invariants, for messages.

Each is a function from the ids of campaigns to the rows of theirs that are wrong. They read whole
tables: at a million messages what counts is how often each is gone through.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Select

from tracker.status import IN_PROGRESS_STATUSES, LEGAL_TRANSITIONS, Reason, Status
from tracker.store.schema.catalog import batches, campaigns, customers, runs
from tracker.store.schema.messages import NO_REASON, messages, tallies, transitions
from tracker.store.schema.work import steps

NO_STATUS = -1
"""Stands for the status before the first."""

MAX_CLOCK_SKEW_MICROSECONDS = 1_000_000
"""Microseconds of real time by which the clocks of two workers' computers may differ."""


def _scaled_clock_skew(ids: Sequence[int]) -> sa.ScalarSelect[Any]:
    """The same in the campaigns' own time, which may run faster."""
    return (
        sa.select(MAX_CLOCK_SKEW_MICROSECONDS * sa.func.max(runs.c.speed))
        .join(campaigns, campaigns.c.run_id == runs.c.id)
        .where(campaigns.c.id.in_(ids))
        .scalar_subquery()
    )


def _previous_attempt() -> sa.ColumnElement[int]:
    """The attempt that a message was on in the status it came from."""
    return sa.case(
        (transitions.c.previous.in_(IN_PROGRESS_STATUSES), 0),
        (transitions.c.status == Status.IN_GATEWAY, transitions.c.attempt - 1),
        else_=transitions.c.attempt,
    )


def find_wrong_tallies(ids: Sequence[int]) -> Select[Any]:
    state = ("status", "reason", "attempt")
    counted = (
        sa.select(
            batches.c.campaign_id,
            batches.c.batch,
            *(messages.c[each] for each in state),
            sa.func.count().label("messages"),
            sa.literal(0).label("tallied"),
        )
        .join(
            messages,
            sa.and_(
                messages.c.campaign_id == batches.c.campaign_id,
                messages.c.number >= batches.c.first,
                messages.c.number < batches.c.first + batches.c.size,
            ),
        )
        .where(batches.c.campaign_id.in_(ids))
        .group_by(batches.c.campaign_id, batches.c.batch, *(messages.c[each] for each in state))
    )
    tallied = sa.select(
        tallies.c.campaign_id,
        tallies.c.batch,
        *(tallies.c[each] for each in state),
        sa.literal(0),
        tallies.c.messages,
    ).where(tallies.c.campaign_id.in_(ids))
    both = sa.union_all(counted, tallied).subquery()
    key = [both.c[each] for each in ("campaign_id", "batch", *state)]
    there, said = sa.func.sum(both.c.messages), sa.func.sum(both.c.tallied)
    return (
        sa.select(*key, there.label("messages"), said.label("tallied"))
        .group_by(*key)
        .having(there != said)
        .order_by(*key)
    )


def find_states_without_transition(ids: Sequence[int]) -> Select[Any]:
    return (
        sa.select(
            messages.c.campaign_id,
            messages.c.number,
            messages.c.status,
            messages.c.attempt,
            messages.c.reason,
            transitions.c.reason.label("recorded_reason"),
        )
        .outerjoin(
            transitions,
            sa.and_(
                transitions.c.campaign_id == messages.c.campaign_id,
                transitions.c.status == messages.c.status,
                transitions.c.attempt == messages.c.attempt,
                transitions.c.number == messages.c.number,
            ),
        )
        .where(
            messages.c.campaign_id.in_(ids),
            sa.or_(
                transitions.c.number.is_(None),
                transitions.c.reason != messages.c.reason,
            ),
        )
        .order_by(messages.c.campaign_id, messages.c.number)
    )


def find_unbalanced_flows(ids: Sequence[int]) -> Select[Any]:
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
    sums = {each: sa.func.sum(flow.c[each]) for each in ("entered", "left", "there")}
    return (
        sa.select(*key, *(total.label(each) for each, total in sums.items()))
        .group_by(*key)
        .having(sums["entered"] - sums["left"] != sums["there"])
        .order_by(*key)
    )


def find_illegal_transitions(ids: Sequence[int]) -> Select[Any]:
    earlier = transitions.alias("earlier")
    legal = sa.or_(
        *(
            sa.and_(
                # NULL is made a number: to compare with it would be neither true nor false.
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
                earlier.c.campaign_id == transitions.c.campaign_id,
                earlier.c.status == transitions.c.previous,
                earlier.c.attempt == _previous_attempt(),
                earlier.c.number == transitions.c.number,
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
    said = sa.select(
        steps.c.campaign_id, steps.c.id, none, steps.c.moved, none, steps.c.finished_at
    ).where(steps.c.campaign_id.in_(ids))
    both = sa.union_all(moved, said).subquery()
    key = [both.c.campaign_id, both.c.step_id]
    there, claimed = sa.func.sum(both.c.transitions), sa.func.sum(both.c.moved)
    last_at, finished_at = sa.func.max(both.c.last_at), sa.func.max(both.c.finished_at)
    return (
        sa.select(
            *key,
            there.label("transitions"),
            claimed.label("moved"),
            (last_at - finished_at).label("microseconds_too_late"),
        )
        .group_by(*key)
        .having(sa.or_(there != claimed, last_at > finished_at + _scaled_clock_skew(ids)))
        .order_by(*key)
    )


def find_wrong_reasons(ids: Sequence[int]) -> Select[Any]:
    stopped = messages.c.status == Status.NOT_SENT
    return (
        sa.select(messages.c.campaign_id, messages.c.number, messages.c.status, messages.c.reason)
        .where(
            messages.c.campaign_id.in_(ids),
            sa.or_(
                sa.and_(stopped, messages.c.reason.not_in(Reason)),
                sa.and_(~stopped, messages.c.reason != NO_REASON),
            ),
        )
        .order_by(messages.c.campaign_id, messages.c.number)
    )


def find_batch_gaps_and_overlaps(ids: Sequence[int]) -> Select[Any]:
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
    audiences = sa.select(campaigns.c.audience_id).where(campaigns.c.id.in_(ids))
    people = (
        sa.select(customers.c.audience_id, sa.func.count().label("customers"))
        .where(customers.c.audience_id.in_(audiences))
        .group_by(customers.c.audience_id)
        .subquery()
    )
    covered = (
        sa.select(batches.c.campaign_id, sa.func.sum(batches.c.size).label("messages"))
        .where(batches.c.campaign_id.in_(ids))
        .group_by(batches.c.campaign_id)
        .subquery()
    )
    there = sa.func.coalesce(people.c.customers, 0)
    recorded = sa.func.coalesce(covered.c.messages, 0)
    return (
        sa.select(
            campaigns.c.id.label("campaign_id"),
            there.label("customers"),
            recorded.label("messages"),
        )
        .join(runs, runs.c.id == campaigns.c.run_id)
        .outerjoin(people, people.c.audience_id == campaigns.c.audience_id)
        .outerjoin(covered, covered.c.campaign_id == campaigns.c.id)
        .where(campaigns.c.id.in_(ids), runs.c.finished_at.is_not(None), there != recorded)
        .order_by(campaigns.c.id)
    )


def find_messages_without_customer(ids: Sequence[int]) -> Select[Any]:
    # A difference of sets is one, whatever a planner believes of the tables; a join may not be.
    there = sa.select(messages.c.campaign_id, messages.c.number).where(
        messages.c.campaign_id.in_(ids)
    )
    people = (
        sa.select(campaigns.c.id, customers.c.number)
        .join(customers, customers.c.audience_id == campaigns.c.audience_id)
        .where(campaigns.c.id.in_(ids))
    )
    alone = sa.except_(there, people).subquery()
    return sa.select(alone).order_by(alone.c.campaign_id, alone.c.number)
