"""The simulated gateway's own record of what it accepted, and what it decided to do with it.

It is written in transactions of its own, apart from the workers', as a gateway's would be. So it
can tell against the tracker: what was accepted, how often, and that nobody else was.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, MetaData, SmallInteger, Table
from sqlalchemy.exc import IntegrityError

from tracker.audit import Invariant
from tracker.clock import Instant
from tracker.database import Database, migrate
from tracker.schema import campaigns, messages, transitions
from tracker.schema import metadata as tracker_metadata
from tracker.status import LEGAL, Status

MIGRATIONS = Path(__file__).parent / "migrations" / "versions"

OUTCOMES = LEGAL[Status.IN_GATEWAY]

metadata = MetaData(naming_convention=tracker_metadata.naming_convention)

acceptances = Table(
    "gateway_ledger",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("attempt", SmallInteger, primary_key=True, autoincrement=False),
    Column("accepted_at", BigInteger, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("repeats", Integer, nullable=False, server_default=sa.text("0")),
    CheckConstraint(
        f"outcome IN ({', '.join(str(int(status)) for status in sorted(OUTCOMES))})", name="outcome"
    ),
    CheckConstraint("due_at >= accepted_at", name="due_at"),
    sqlite_with_rowid=False,
    comment="Messages that the simulated gateway accepted, once an attempt; repeats counts how"
    " often it was given one again. The receipt with the outcome is out from due_at on.",
)


SQLITE_EXTRAS = (
    "INSERT INTO sqlite_stat1 (tbl, idx, stat)"
    " VALUES ('gateway_ledger', 'gateway_ledger', '1000000 100000 2 1')",
)
"""What SQLite's planner must know of the table; see :data:`tracker.schema.SQLITE_STATISTICS`."""


def prepare(database: Database) -> None:
    """Bring the ledger's table up to date."""
    migrate(database, "simulator", MIGRATIONS)


def accept(
    database: Database,
    campaign_id: int,
    attempt: int,
    *,
    numbers: Sequence[int],
    outcomes: Sequence[int],
    due_at: Sequence[Instant],
    at: Instant,
) -> dict[int, Instant]:
    """Write down what is accepted now. Numbers that had been accepted before, and when."""
    offered = {"number": numbers, "outcome": outcomes, "due_at": due_at}
    try:
        return _accept(database, campaign_id, attempt, offered, at)
    except IntegrityError:
        # Somebody was offered the same at the same time. Theirs is there to be seen by now.
        return _accept(database, campaign_id, attempt, offered, at)


def _accept(
    database: Database,
    campaign_id: int,
    attempt: int,
    offered: Mapping[str, Sequence[int]],
    at: Instant,
) -> dict[int, Instant]:
    # Looked up first and then inserted plainly: on PostgreSQL an INSERT that is prepared for
    # conflicts costs almost twice as much, and there are hardly ever any.
    numbers = offered["number"]
    known = (
        acceptances.c.campaign_id == campaign_id,
        acceptances.c.attempt == attempt,
        database.among(acceptances.c.number, numbers),
    )
    with database.write() as connection:
        found = connection.execute(
            sa.select(acceptances.c.number, acceptances.c.accepted_at).where(*known)
        )
        earlier: dict[int, Instant] = dict(found.all())
        if earlier:
            connection.execute(
                sa.update(acceptances).where(*known).values(repeats=acceptances.c.repeats + 1)
            )
            new = [place for place, number in enumerate(numbers) if number not in earlier]
            offered = {name: [values[each] for each in new] for name, values in offered.items()}
        if offered["number"]:
            rows = database.rows(**offered)
            connection.execute(
                sa.insert(acceptances).from_select(
                    ("campaign_id", "number", "attempt", "accepted_at", "outcome", "due_at"),
                    sa.select(
                        sa.literal(campaign_id, Integer),
                        rows.c.number,
                        sa.literal(attempt, SmallInteger),
                        sa.literal(at, BigInteger),
                        rows.c.outcome,
                        rows.c.due_at,
                    ),
                )
            )
    return earlier


class Answers(NamedTuple):
    """(number, outcome, due_at) of the receipts that are out, and when the next one is due."""

    out: Sequence[tuple[int, int, Instant]]
    next_due: Instant | None


def answers(
    database: Database, campaign_id: int, attempt: int, numbers: Sequence[int], now: Instant
) -> Answers:
    """What there is to say by ``now`` of messages that were accepted on an attempt."""
    asked = (
        acceptances.c.campaign_id == campaign_id,
        acceptances.c.attempt == attempt,
        database.among(acceptances.c.number, numbers),
    )
    with database.read() as connection:
        out = connection.execute(
            sa.select(acceptances.c.number, acceptances.c.outcome, acceptances.c.due_at).where(
                *asked, acceptances.c.due_at <= now
            )
        ).all()
        next_due = None
        if len(out) < len(numbers):
            next_due = connection.scalar(
                sa.select(sa.func.min(acceptances.c.due_at)).where(
                    *asked, acceptances.c.due_at > now
                )
            )
    return Answers([tuple(row) for row in out], next_due)


def repeats(connection: sa.Connection, campaign_ids: Sequence[int]) -> int:
    """How often the gateway was given something that it had accepted before."""
    total = connection.scalar(
        sa.select(sa.func.coalesce(sa.func.sum(acceptances.c.repeats), 0)).where(
            acceptances.c.campaign_id.in_(campaign_ids)
        )
    )
    return int(total or 0)


def _accepted_is_recorded(ids: Sequence[int]) -> sa.Select[Any]:
    return (
        sa.select(
            acceptances.c.campaign_id,
            acceptances.c.number,
            acceptances.c.attempt,
            messages.c.status,
        )
        .outerjoin(
            transitions,
            sa.and_(
                transitions.c.campaign_id == acceptances.c.campaign_id,
                transitions.c.status == Status.IN_GATEWAY,
                transitions.c.attempt == acceptances.c.attempt,
                transitions.c.number == acceptances.c.number,
            ),
        )
        .outerjoin(
            messages,
            sa.and_(
                messages.c.campaign_id == acceptances.c.campaign_id,
                messages.c.number == acceptances.c.number,
            ),
        )
        .where(
            acceptances.c.campaign_id.in_(ids),
            transitions.c.number.is_(None),
            # Between the gateway's transaction and the journal's, and after a crash there, a
            # message waits for exactly this attempt. Unknown messages have null here.
            sa.func.coalesce(sa.not_(_awaits_attempt()), sa.true()),
        )
        .order_by(acceptances.c.campaign_id, acceptances.c.number)
    )


def _awaits_attempt() -> sa.ColumnElement[bool]:
    """Whether a message is to be handed over for the attempt of an acceptance."""
    attempts = (
        sa.select(campaigns.c.attempts)
        .where(campaigns.c.id == acceptances.c.campaign_id)
        .correlate(acceptances)
        .scalar_subquery()
    )
    return sa.or_(
        sa.and_(messages.c.status == Status.ABOUT_TO_BE_SENT, acceptances.c.attempt == 1),
        sa.and_(
            messages.c.status == Status.SOFT_BOUNCED,
            messages.c.attempt == acceptances.c.attempt - 1,
            messages.c.attempt < attempts,
        ),
    )


def _recorded_is_accepted(ids: Sequence[int]) -> sa.Select[Any]:
    return (
        sa.select(transitions.c.campaign_id, transitions.c.number, transitions.c.attempt)
        .outerjoin(
            acceptances,
            sa.and_(
                acceptances.c.campaign_id == transitions.c.campaign_id,
                acceptances.c.number == transitions.c.number,
                acceptances.c.attempt == transitions.c.attempt,
            ),
        )
        .where(
            transitions.c.campaign_id.in_(ids),
            transitions.c.status == Status.IN_GATEWAY,
            acceptances.c.number.is_(None),
        )
        .order_by(transitions.c.campaign_id, transitions.c.number)
    )


def _outcome_is_recorded(ids: Sequence[int]) -> sa.Select[Any]:
    # What follows an outcome, such as a late bounce, does not come from the gateway's hands.
    return (
        sa.select(
            transitions.c.campaign_id,
            transitions.c.number,
            transitions.c.attempt,
            transitions.c.status,
            acceptances.c.outcome,
        )
        .join(
            acceptances,
            sa.and_(
                acceptances.c.campaign_id == transitions.c.campaign_id,
                acceptances.c.number == transitions.c.number,
                acceptances.c.attempt == transitions.c.attempt,
            ),
        )
        .where(
            transitions.c.campaign_id.in_(ids),
            transitions.c.status.in_(OUTCOMES),
            transitions.c.previous == Status.IN_GATEWAY,
            transitions.c.status != acceptances.c.outcome,
        )
        .order_by(transitions.c.campaign_id, transitions.c.number)
    )


INVARIANTS = (
    Invariant(
        "accepted_is_recorded",
        "What the gateway accepted is on record as handed to it, or still waits to be.",
        _accepted_is_recorded,
    ),
    Invariant(
        "recorded_is_accepted",
        "What is on record as handed to the gateway is in the gateway's own ledger.",
        _recorded_is_accepted,
    ),
    Invariant(
        "outcome_is_recorded",
        "What is on record as the gateway's answer is the answer in its ledger.",
        _outcome_is_recorded,
    ),
)
