"""The simulated gateway's own record of what it accepted, and what it decided to do with it.

It is written in transactions of its own, apart from the workers', as a gateway's would be. So it
can tell against the tracker: what was accepted, how often, and that nobody else was.
"""

from collections.abc import Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import BigInteger, Connection, Integer, SmallInteger, Table
from sqlalchemy.exc import IntegrityError

from simulator.schema import acceptances, magic, notices, refused_calls, rejections
from tracker.clock import Instant
from tracker.store.database import Database

NEVER_DUE: Instant = -1
"""Stands for the instant at which a lost receipt is due."""


class Notice(NamedTuple):
    """A row of :data:`notices`, but for its campaign."""

    number: int
    attempt: int
    status: int
    copy: int
    due_at: Instant


@dataclass(frozen=True, kw_only=True)
class SubmissionPlan:
    """Messages of a campaign on one attempt, and what the gateway would decide on each.

    ``due_at`` is :data:`NEVER_DUE` where the receipt is lost. ``rejections`` are how often each is
    refused before it is accepted. ``notices`` and ``magic`` are rows of their
    tables, without the campaign, of any of the messages.
    """

    campaign_id: int
    attempt: int
    numbers: Sequence[int]
    outcomes: Sequence[int]
    due_at: Sequence[Instant]
    rejections: Sequence[int]
    notices: Sequence[Notice] = ()
    magic: Sequence[tuple[int, int]] = ()


class AcceptanceResult(NamedTuple):
    """Those that had been accepted before, and when; and those that are refused for now."""

    earlier: Mapping[int, Instant]
    refused: AbstractSet[int]


def record_acceptance(database: Database, offer: SubmissionPlan, at: Instant) -> AcceptanceResult:
    """Write down what is accepted now; all but what the decision names."""
    try:
        return _record_acceptance(database, offer, at)
    except IntegrityError:
        # Somebody was offered the same at the same time. Theirs is there to be seen by now.
        return _record_acceptance(database, offer, at)


def _record_acceptance(database: Database, offer: SubmissionPlan, at: Instant) -> AcceptanceResult:
    # Looked up first and then inserted plainly: on PostgreSQL an INSERT that is prepared for
    # conflicts costs almost twice as much, and there are hardly ever any.
    known = _match_submission(database, acceptances, offer)
    with database.write() as connection:
        found = connection.execute(
            sa.select(acceptances.c.number, acceptances.c.accepted_at).where(*known)
        )
        earlier: dict[int, Instant] = dict(found.all())
        if earlier:
            connection.execute(
                sa.update(acceptances).where(*known).values(repeats=acceptances.c.repeats + 1)
            )
        refused = _record_rejections(database, connection, offer, earlier)
        out = earlier.keys() | refused
        places = [place for place, number in enumerate(offer.numbers) if number not in out]
        if places:
            _insert_acceptances(database, connection, offer, places, at)
        for table, rows in ((notices, offer.notices), (magic, offer.magic)):
            columns = [column.name for column in table.c][1:]
            new = [
                {"campaign_id": offer.campaign_id, **dict(zip(columns, row, strict=True))}
                for row in rows
                if row[0] not in out
            ]
            if new:
                connection.execute(database.upsert(table).on_conflict_do_nothing(), new)
    return AcceptanceResult(earlier, refused)


def _match_submission(
    database: Database, table: Table, offer: SubmissionPlan
) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        table.c.campaign_id == offer.campaign_id,
        table.c.attempt == offer.attempt,
        database.in_list(table.c.number, offer.numbers),
    )


def _insert_acceptances(
    database: Database,
    connection: Connection,
    offer: SubmissionPlan,
    places: Sequence[int],
    at: Instant,
) -> None:
    if len(places) < len(offer.numbers):
        offer = replace(
            offer,
            numbers=[offer.numbers[place] for place in places],
            outcomes=[offer.outcomes[place] for place in places],
            due_at=[offer.due_at[place] for place in places],
        )
    rows = database.table_from_columns(
        number=offer.numbers, outcome=offer.outcomes, due_at=offer.due_at
    )
    connection.execute(
        sa.insert(acceptances).from_select(
            ("campaign_id", "number", "attempt", "accepted_at", "outcome", "due_at"),
            sa.select(
                sa.literal(offer.campaign_id, Integer),
                rows.c.number,
                sa.literal(offer.attempt, SmallInteger),
                sa.literal(at, BigInteger),
                rows.c.outcome,
                sa.func.nullif(rows.c.due_at, NEVER_DUE),
            ),
        )
    )


def _record_rejections(
    database: Database, connection: Connection, offer: SubmissionPlan, earlier: Container[int]
) -> AbstractSet[int]:
    """Who is to be refused once more; that is written down."""
    if not any(offer.rejections):
        return frozenset()
    found = connection.execute(
        sa.select(rejections.c.number, rejections.c.times).where(
            *_match_submission(database, rejections, offer)
        )
    )
    had = dict(found.all())
    refused = {
        number
        for number, times in zip(offer.numbers, offer.rejections, strict=True)
        if number not in earlier and had.get(number, 0) < times
    }
    if refused:
        insert = database.upsert(rejections)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=list(rejections.primary_key),
                # Who refused it at the same time counted the same refusal.
                set_={"times": insert.excluded.times},
            ),
            [
                {
                    "campaign_id": offer.campaign_id,
                    "number": number,
                    "attempt": offer.attempt,
                    "times": had.get(number, 0) + 1,
                }
                for number in sorted(refused)
            ],
        )
    return refused


def record_refused_call(database: Database, campaign_id: int, at: Instant) -> None:
    """Write down that the gateway was called while it was away."""
    with database.write() as connection:
        connection.execute(sa.insert(refused_calls).values(campaign_id=campaign_id, at=at))


class DueReceipts(NamedTuple):
    """(number, outcome, due_at) of the receipts that are out, and when the next one is due."""

    out: Sequence[tuple[int, int, Instant]]
    next_due: Instant | None


def answers(
    database: Database, campaign_id: int, attempt: int, numbers: Sequence[int], now: Instant
) -> DueReceipts:
    """What there is to say by ``now`` of messages that were accepted on an attempt."""
    asked = (
        acceptances.c.campaign_id == campaign_id,
        acceptances.c.attempt == attempt,
        database.in_list(acceptances.c.number, numbers),
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
    return DueReceipts([tuple(row) for row in out], next_due)


def read_notices(
    database: Database, campaign_id: int, first: int, last: int, now: Instant
) -> tuple[Sequence[Notice], Instant | None]:
    """What is out by ``now`` beside the outcomes, of messages ``first`` … ``last``, and when there
    is more."""
    of_them = (notices.c.campaign_id == campaign_id, notices.c.number.between(first, last))
    with database.read() as connection:
        rows = connection.execute(sa.select(notices).where(*of_them, notices.c.due_at <= now))
        out = [Notice(*row[1:]) for row in rows]
        more = sa.select(sa.func.min(notices.c.due_at)).where(*of_them, notices.c.due_at > now)
        return out, connection.scalar(more)


def forced(database: Database, campaign_id: int, first: int, last: int) -> dict[int, int]:
    """The messages ``first`` … ``last`` whose recipients force what they do, and what that is."""
    with database.read() as connection:
        rows = connection.execute(
            sa.select(magic.c.number, magic.c.magic).where(
                magic.c.campaign_id == campaign_id, magic.c.number.between(first, last)
            )
        )
        return dict(rows.all())


@dataclass(frozen=True, kw_only=True)
class LedgerCounts:
    """``repeats``: how often the gateway was given something that it had accepted before.
    ``refused``: how often it refused a message for now. ``refused_calls``: how often it was
    called while it was away."""

    repeats: int
    refused: int
    refused_calls: int


def refused(connection: sa.Connection, campaign_ids: Sequence[int]) -> int:
    """How often the gateway refused messages of campaigns for now."""
    times = sa.select(sa.func.sum(rejections.c.times)).where(
        rejections.c.campaign_id.in_(campaign_ids)
    )
    return int(connection.scalar(times) or 0)


def counts(connection: sa.Connection, campaign_ids: Sequence[int]) -> LedgerCounts:
    """What the gateway has counted of campaigns."""

    def total(what: sa.ColumnElement[int], table: Table) -> int:
        query = sa.select(what).where(table.c.campaign_id.in_(campaign_ids))
        return int(connection.scalar(query) or 0)

    return LedgerCounts(
        repeats=total(sa.func.sum(acceptances.c.repeats), acceptances),
        refused=refused(connection, campaign_ids),
        refused_calls=total(sa.func.count(), refused_calls),
    )
