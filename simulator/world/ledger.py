"""The simulated gateway's own record of what it accepted and what it decided about it.

The ledger is written in transactions apart from the workers', as that of a real gateway would be.
It can therefore contradict the tracker: it shows what was accepted, how often, and that nothing
else was.
"""

from collections.abc import Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection, Integer, SmallInteger, Table
from sqlalchemy.exc import IntegrityError

from simulator.schema import acceptances, forced_outcomes, notices, refused_calls, rejections
from tracker.clock import Instant
from tracker.record.receipts import Receipts
from tracker.store.arrays import read_columns
from tracker.store.columns import Numbers, as_array
from tracker.store.database import Database

NEVER_DUE: Instant = -1
"""Due instant of a receipt that is lost."""


class Notice(NamedTuple):
    """A row of the table `notices` without its campaign: a receipt beside those of outcomes."""

    number: int
    attempt: int
    status: int
    copy: int
    due_at: Instant


class ForcedOutcomeRow(NamedTuple):
    """A row of the table `forced_outcomes` without its campaign."""

    number: int
    magic: int


@dataclass(frozen=True, kw_only=True)
class SubmissionPlan:
    """Messages of a campaign on one attempt, and what the gateway decides about each.

    Attributes:
        numbers: numbers of the messages. The sequences are in the same order.
        accepted_at: instants at which they are accepted.
        outcomes: codes of `Status`.
        due_at: instants of the receipts; NEVER_DUE if the receipt is lost.
        rejections: times that the gateway rejects each message before it accepts it.
        notices: receipts beside those of the outcomes.
        forced_outcomes: outcomes that recipients force.
    """

    campaign_id: int
    attempt: int
    numbers: Sequence[int]
    accepted_at: NDArray[np.int64]
    outcomes: NDArray[np.int8]
    due_at: NDArray[np.int64]
    rejections: NDArray[np.int64]
    notices: Sequence[Notice] = ()
    forced_outcomes: Sequence[ForcedOutcomeRow] = ()


class AcceptanceResult(NamedTuple):
    """The messages of a submission that it did not newly accept.

    Attributes:
        accepted_before: messages that were accepted earlier, with the instant of that.
        rejected: messages that are rejected for now.
    """

    accepted_before: Mapping[int, Instant]
    rejected: AbstractSet[int]


def record_acceptance(database: Database, plan: SubmissionPlan) -> AcceptanceResult:
    """Record the acceptance of a submission's messages, except those that the result names."""
    try:
        return _record_acceptance(database, plan)
    except IntegrityError:
        # Another worker submitted the same messages at the same time. Its rows are visible now.
        return _record_acceptance(database, plan)


def _record_acceptance(database: Database, plan: SubmissionPlan) -> AcceptanceResult:
    # A lookup and a plain INSERT: on PostgreSQL an INSERT with ON CONFLICT costs almost twice as
    # much, and conflicts are rare.
    is_submitted = _match_submission(database, acceptances, plan)
    with database.write() as connection:
        rows = connection.execute(
            sa.select(acceptances.c.number, acceptances.c.accepted_at).where(*is_submitted)
        )
        accepted_before: dict[int, Instant] = dict(rows.all())
        if accepted_before:
            connection.execute(
                sa.update(acceptances)
                .where(*is_submitted)
                .values(repeats=acceptances.c.repeats + 1)
            )
        rejected = _record_rejections(database, connection, plan, accepted_before)
        excluded = accepted_before.keys() | rejected
        _insert_acceptances(database, connection, plan, excluded)
        _insert_rows(database, connection, notices, plan, plan.notices, excluded)
        _insert_rows(database, connection, forced_outcomes, plan, plan.forced_outcomes, excluded)
    return AcceptanceResult(accepted_before, rejected)


def _match_submission(
    database: Database, table: Table, plan: SubmissionPlan
) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        table.c.campaign_id == plan.campaign_id,
        table.c.attempt == plan.attempt,
        database.in_list(table.c.number, plan.numbers),
    )


def _insert_acceptances(
    database: Database,
    connection: Connection,
    plan: SubmissionPlan,
    excluded: AbstractSet[int],
) -> None:
    columns: dict[str, Numbers] = {
        "number": plan.numbers,
        "accepted_at": plan.accepted_at,
        "outcome": plan.outcomes,
        "due_at": plan.due_at,
    }
    if excluded:
        is_new = np.array([number not in excluded for number in plan.numbers])
        if not is_new.any():
            return
        columns = {name: as_array(values)[is_new] for name, values in columns.items()}
    rows = database.table_from_columns(**columns)
    connection.execute(
        sa.insert(acceptances).from_select(
            ("campaign_id", "number", "attempt", "accepted_at", "outcome", "due_at"),
            sa.select(
                sa.literal(plan.campaign_id, Integer),
                rows.c.number,
                sa.literal(plan.attempt, SmallInteger),
                rows.c.accepted_at,
                rows.c.outcome,
                sa.func.nullif(rows.c.due_at, NEVER_DUE),
            ),
        )
    )


def _insert_rows(
    database: Database,
    connection: Connection,
    table: Table,
    plan: SubmissionPlan,
    rows: Sequence[Notice] | Sequence[ForcedOutcomeRow],
    excluded: Container[int],
) -> None:
    """Insert the rows of messages that are newly accepted, unless they are there already."""
    values = [
        {"campaign_id": plan.campaign_id, **row._asdict()}
        for row in rows
        if row.number not in excluded
    ]
    if values:
        connection.execute(database.insert_missing(table), values)


def _record_rejections(
    database: Database,
    connection: Connection,
    plan: SubmissionPlan,
    accepted_before: Container[int],
) -> AbstractSet[int]:
    """Count one more rejection for the messages that are rejected for now, and return them."""
    if not plan.rejections.any():
        return frozenset()
    rows = connection.execute(
        sa.select(rejections.c.number, rejections.c.times).where(
            *_match_submission(database, rejections, plan)
        )
    )
    times_before = dict(rows.all())
    rejected = {
        number
        for number, times in zip(plan.numbers, plan.rejections.tolist(), strict=True)
        if number not in accepted_before and times_before.get(number, 0) < times
    }
    if rejected:
        # A worker that rejects the message at the same time counts the same rejection.
        connection.execute(
            database.insert_or_replace(rejections, "times"),
            [
                {
                    "campaign_id": plan.campaign_id,
                    "number": number,
                    "attempt": plan.attempt,
                    "times": times_before.get(number, 0) + 1,
                }
                for number in sorted(rejected)
            ],
        )
    return rejected


def record_refused_call(database: Database, campaign_id: int, at: Instant) -> None:
    """Record that a worker called the gateway during an outage."""
    with database.write() as connection:
        connection.execute(sa.insert(refused_calls).values(campaign_id=campaign_id, at=at))


class DueReceipts(NamedTuple):
    """Receipts that are due.

    Attributes:
        next_due: instant at which the next receipt is due; None for never.
    """

    receipts: Receipts
    next_due: Instant | None


def read_due_receipts(
    database: Database, campaign_id: int, attempt: int, numbers: Sequence[int], now: Instant
) -> DueReceipts:
    """Return the receipts due by `now` of messages that were accepted on an attempt."""
    is_asked = (
        acceptances.c.campaign_id == campaign_id,
        acceptances.c.attempt == attempt,
        database.in_list(acceptances.c.number, numbers),
    )
    due = sa.select(acceptances.c.number, acceptances.c.outcome, acceptances.c.due_at).where(
        *is_asked, acceptances.c.due_at <= now
    )
    with database.read() as connection:
        due_numbers, outcomes, due_at = read_columns(connection, due)
        next_due = None
        if len(due_numbers) < len(numbers):
            next_due = connection.scalar(
                sa.select(sa.func.min(acceptances.c.due_at)).where(
                    *is_asked, acceptances.c.due_at > now
                )
            )
    return DueReceipts(Receipts.of_outcomes(due_numbers, attempt, outcomes, due_at), next_due)


def read_notices(
    database: Database, campaign_id: int, first: int, last: int, now: Instant
) -> tuple[Sequence[Notice], Instant | None]:
    """Return the notices due by `now` of messages `first` to `last`, and when the next is due."""
    is_asked = (notices.c.campaign_id == campaign_id, notices.c.number.between(first, last))
    columns = [notices.c[name] for name in Notice._fields]
    with database.read() as connection:
        rows = connection.execute(sa.select(*columns).where(*is_asked, notices.c.due_at <= now))
        due = [Notice(*row) for row in rows]
        next_due = sa.select(sa.func.min(notices.c.due_at)).where(*is_asked, notices.c.due_at > now)
        return due, connection.scalar(next_due)


def read_forced_outcomes(
    database: Database, campaign_id: int, first: int, last: int
) -> dict[int, int]:
    """Return the codes of `ForcedOutcome` that recipients force, by message, `first` to `last`."""
    with database.read() as connection:
        rows = connection.execute(
            sa.select(forced_outcomes.c.number, forced_outcomes.c.magic).where(
                forced_outcomes.c.campaign_id == campaign_id,
                forced_outcomes.c.number.between(first, last),
            )
        )
        return dict(rows.all())


@dataclass(frozen=True, kw_only=True)
class LedgerCounts:
    """Counts of the ledger.

    Attributes:
        repeats: times that the gateway was given a message that it had accepted before.
        refused: times that it rejected a message temporarily.
        refused_calls: calls during an outage.
    """

    repeats: int
    refused: int
    refused_calls: int


def count_rejections(connection: Connection, campaign_ids: Sequence[int]) -> int:
    """Return how often the gateway rejected messages of campaigns temporarily."""
    return _count(connection, sa.func.sum(rejections.c.times), rejections, campaign_ids)


def count_ledger_events(connection: Connection, campaign_ids: Sequence[int]) -> LedgerCounts:
    """Return what the ledger counts of campaigns."""
    repeats = sa.func.sum(acceptances.c.repeats)
    return LedgerCounts(
        repeats=_count(connection, repeats, acceptances, campaign_ids),
        refused=count_rejections(connection, campaign_ids),
        refused_calls=_count(connection, sa.func.count(), refused_calls, campaign_ids),
    )


def _count(
    connection: Connection,
    expression: sa.ColumnElement[int],
    table: Table,
    campaign_ids: Sequence[int],
) -> int:
    query = sa.select(expression).where(table.c.campaign_id.in_(campaign_ids))
    return int(connection.scalar(query) or 0)
