"""The invariants, as queries: each returns the rows that contradict it, so none is good news.

They read the messages, the transitions, the tallies and the steps, and hold one against the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, RowMapping, Select

from tracker.catalog import Campaign
from tracker.report import make_reports
from tracker.schema import NO_REASON, batches, messages, steps, tallies, transitions
from tracker.status import IN_PROGRESS, LEGAL, Reason, Status

EXAMPLES = 5
"""Wrong rows that are named; all are counted."""

NOTHING = -1
"""Stands for the status before the first."""

Query = Callable[[Sequence[int]], "Select[Any]"]
"""From the ids of campaigns to the rows of theirs that are wrong."""


@dataclass(frozen=True)
class Invariant:
    """Something that is always true. ``claim`` says what, ``query`` finds where it is not."""

    name: str
    claim: str
    query: Query


@dataclass(frozen=True)
class Finding:
    """What came of looking: the number of wrong rows, and the first of them."""

    invariant: Invariant
    wrong: int
    examples: tuple[dict[str, Any], ...]

    @property
    def holds(self) -> bool:
        return self.wrong == 0

    def as_json(self) -> dict[str, Any]:
        return {
            "invariant": self.invariant.name,
            "claim": self.invariant.claim,
            "holds": self.holds,
            "wrong": self.wrong,
            "examples": list(self.examples),
        }


def check(
    connection: Connection, campaigns: Sequence[Campaign], invariants: Sequence[Invariant]
) -> list[Finding]:
    """Look for what contradicts ``invariants``, in one snapshot if ``connection`` sees one."""
    ids = [campaign.id for campaign in campaigns]
    findings = [_look(connection, invariant, ids) for invariant in invariants]
    unbalanced = tuple(
        {"campaign_id": report.campaign.id, **report.as_json()}
        for report in make_reports(connection, campaigns)
        if not report.balanced
    )
    return [*findings, Finding(BALANCED, len(unbalanced), unbalanced[:EXAMPLES])]


def _look(connection: Connection, invariant: Invariant, ids: Sequence[int]) -> Finding:
    query = invariant.query(ids)
    rows = connection.execute(query.limit(EXAMPLES + 1)).mappings().all()
    wrong = len(rows)
    if wrong > EXAMPLES:
        wrong = connection.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0
    return Finding(invariant, wrong, tuple(_plain(row) for row in rows[:EXAMPLES]))


def _plain(row: RowMapping) -> dict[str, Any]:
    """A row as JSON can show it: PostgreSQL's sums are decimals."""
    return {key: int(value) if isinstance(value, Decimal) else value for key, value in row.items()}


def _previous_attempt() -> sa.ColumnElement[int]:
    """The attempt that a message was on in the status it came from."""
    return sa.case(
        (transitions.c.previous.in_(IN_PROGRESS), 0),
        (transitions.c.status == Status.IN_GATEWAY, transitions.c.attempt - 1),
        else_=transitions.c.attempt,
    )


def _tallies_are_counts(ids: Sequence[int]) -> Select[Any]:
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


def _last_transition_is_state(ids: Sequence[int]) -> Select[Any]:
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


def _entered_less_left_is_there(ids: Sequence[int]) -> Select[Any]:
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


def _came_from_where_it_was(ids: Sequence[int]) -> Select[Any]:
    earlier = transitions.alias("earlier")
    legal = sa.or_(
        *(
            sa.and_(
                # NULL is made a number: to compare with it would be neither true nor false.
                sa.func.coalesce(transitions.c.previous, NOTHING)
                == (NOTHING if source is None else source),
                transitions.c.status.in_(targets),
            )
            for source, targets in LEGAL.items()
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
            ),
        )
        .order_by(transitions.c.campaign_id, transitions.c.number)
    )


def _steps_moved_what_they_say(ids: Sequence[int]) -> Select[Any]:
    moved = (
        sa.select(
            transitions.c.campaign_id,
            transitions.c.step_id,
            sa.func.count().label("transitions"),
            sa.literal(0).label("moved"),
        )
        .where(transitions.c.campaign_id.in_(ids))
        .group_by(transitions.c.campaign_id, transitions.c.step_id)
    )
    said = sa.select(steps.c.campaign_id, steps.c.id, sa.literal(0), steps.c.moved).where(
        steps.c.campaign_id.in_(ids)
    )
    both = sa.union_all(moved, said).subquery()
    key = [both.c.campaign_id, both.c.step_id]
    there, claimed = sa.func.sum(both.c.transitions), sa.func.sum(both.c.moved)
    return (
        sa.select(*key, there.label("transitions"), claimed.label("moved"))
        .group_by(*key)
        .having(there != claimed)
        .order_by(*key)
    )


def _one_reason_if_not_sent(ids: Sequence[int]) -> Select[Any]:
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


def _batches_follow_each_other(ids: Sequence[int]) -> Select[Any]:
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


BALANCED = Invariant(
    "report_balances",
    "Audience = Sent + Not Sent + In Progress, and Sent = Delivered + Bounced + X.",
    lambda _: sa.select(sa.null()).where(sa.false()),
)

INVARIANTS = (
    Invariant(
        "batches_follow",
        "The batches of a campaign cover its message numbers from 0, without gap or overlap.",
        _batches_follow_each_other,
    ),
    Invariant(
        "one_reason",
        "A message that is Not Sent has one reason, any other has none.",
        _one_reason_if_not_sent,
    ),
    Invariant(
        "tallies",
        "Every batch's tallies are the counts of its messages.",
        _tallies_are_counts,
    ),
    Invariant(
        "last_transition",
        "Every message is in the state, and for the reason, of a transition of its own.",
        _last_transition_is_state,
    ),
    Invariant(
        "legal_history",
        "Every transition is legal, and starts where an earlier one of the message ended.",
        _came_from_where_it_was,
    ),
    Invariant(
        "flow",
        "As many messages are in a state as entered it and did not leave it.",
        _entered_less_left_is_there,
    ),
    Invariant(
        "steps",
        "Every step made as many transitions as it says it moved messages.",
        _steps_moved_what_they_say,
    ),
)
