"""The suppression lists that organizations keep from one run to the next.

A list belongs to the organization's name, because a row of `organizations` belongs to one run. An
entry that is recorded again keeps its source and its date. Of two times of expiry the later counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.status import Channel, SuppressionReason
from tracker.store.database import Database
from tracker.store.schema.catalog import organizations
from tracker.store.schema.suppressions import suppressions

COLUMNS = tuple(column.name for column in suppressions.c)

NEVER = 2**62
"""The time of expiry of an entry without one, in a list of numbers."""

READ_ROWS = 10_000
"""Entries that are read at a time; limits the memory."""


class Recipient(NamedTuple):
    """An address or a number as it is compared, with its channel."""

    channel: Channel
    address: str


@dataclass(frozen=True)
class Suppression:
    """An entry of a suppression list; see the table `suppressions`."""

    recipient: Recipient
    reason: SuppressionReason
    count: int
    source: str
    since: Instant
    expires_at: Instant | None

    @property
    def key(self) -> tuple[Recipient, SuppressionReason]:
        """The part of the entry that a list has once."""
        return self.recipient, self.reason


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A selection of the entries of an organization's list; None selects all.

    Attributes:
        recipients: recipients to select; an empty list selects none.
    """

    organization: str
    channel: Channel | None = None
    reason: SuppressionReason | None = None
    recipients: Sequence[Recipient] | None = None

    def build_condition(self) -> sa.ColumnElement[bool]:
        """Return the SQL condition on the rows of `suppressions`.

        It names all columns of the key in their order, so that addresses are looked up.
        """
        entry = suppressions.c
        return sa.or_(
            sa.false(),
            *(
                sa.and_(
                    entry.organization == self.organization,
                    entry.channel == channel,
                    entry.reason.in_(SuppressionReason if self.reason is None else [self.reason]),
                    sa.true()
                    if self.recipients is None
                    else entry.address.in_(
                        [to.address for to in self.recipients if to.channel is channel]
                    ),
                )
                for channel in (Channel if self.channel is None else [self.channel])
            ),
        )


def list_organizations(connection: Connection) -> list[str]:
    """Return the names of the organizations that have a list or had a run with `keep`."""
    kept = sa.select(organizations.c.name).where(organizations.c.suppressions.is_not(None))
    names = sa.union(sa.select(suppressions.c.organization), kept)
    return sorted(connection.scalars(names))


def read_entries(
    connection: Connection, selection: Selection, limit: int | None = None
) -> Iterator[Suppression]:
    """Yield the selected entries in the order of their channels, reasons and addresses.

    With a `limit`, at most so many are yielded.
    """
    query = (
        sa.select(suppressions)
        .where(selection.build_condition())
        .order_by(*suppressions.primary_key)
        .limit(limit)
        .execution_options(yield_per=READ_ROWS)
    )
    for _, channel, reason, address, *values in connection.execute(query):
        yield Suppression(Recipient(Channel(channel), address), SuppressionReason(reason), *values)


def add_entries(
    database: Database,
    connection: Connection,
    organization: str,
    entries: Sequence[Suppression],
    now: Instant,
) -> int:
    """Add entries with different keys to an organization's list.

    Returns:
        The number of entries that the list didn't have, or only expired.
    """
    rows = database.table_from_columns(
        channel=[str(entry.recipient.channel) for entry in entries],
        reason=[str(entry.reason) for entry in entries],
        address=[entry.recipient.address for entry in entries],
        count=[entry.count for entry in entries],
        source=[entry.source for entry in entries],
        since=[entry.since for entry in entries],
        expires_at=[NEVER if (at := entry.expires_at) is None else at for entry in entries],
    )
    listed = suppressions.c
    # As a value, it is looked up for each row; the plan of a join would depend on statistics.
    counted = (
        sa.select(listed.count)
        .where(
            listed.organization == organization,
            *(listed[name] == rows.c[name] for name in ("channel", "reason", "address")),
            sa.or_(listed.expires_at.is_(None), listed.expires_at > sa.literal(now, sa.BigInteger)),
        )
        .scalar_subquery()
    )
    query = sa.select(sa.func.count()).select_from(rows).where(counted.is_not(None))
    listed_count: int = connection.execute(query).scalar_one()
    columns: dict[str, sa.ColumnElement[Any]] = {name: rows.c[name] for name in COLUMNS[1:-1]}
    columns["expires_at"] = sa.func.nullif(rows.c.expires_at, sa.literal(NEVER, sa.BigInteger))
    added = sa.select(
        sa.literal(organization, sa.Text), *(columns[name] for name in COLUMNS[1:])
    ).select_from(rows)
    upsert_entries(database, connection, added, now)
    return len(entries) - listed_count


def upsert_entries(
    database: Database,
    connection: Connection,
    query: sa.Select[Any],
    now: Instant,
    *,
    adds_counts: bool = False,
) -> None:
    """Add the rows of a query, with the columns `COLUMNS` and different keys, to the lists.

    The table must be locked, so that transactions don't wait for each other's rows in a circle.

    Args:
        now: entries that have expired by then are replaced.
        adds_counts: whether the count is added to that of an entry; else the larger one counts.
    """

    def update(new: sa.ColumnCollection[str, sa.ColumnElement[Any]]) -> dict[str, object]:
        old = suppressions.c
        has_expired = old.expires_at <= sa.literal(now, sa.BigInteger)
        count = old.count + new.count if adds_counts else _larger(old.count, new.count)
        is_endless = sa.or_(old.expires_at.is_(None), new.expires_at.is_(None))
        expires_at = sa.case((is_endless, sa.null()), else_=_larger(old.expires_at, new.expires_at))
        kept = {
            "count": count, "source": old.source, "since": old.since, "expires_at": expires_at
        }  # fmt: skip
        return {
            name: sa.case((has_expired, new[name]), else_=value) for name, value in kept.items()
        }

    connection.execute(database.insert_or_update_from(suppressions, COLUMNS, query, update))


def _larger(one: sa.ColumnElement[Any], other: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.case((one >= other, one), else_=other)


def remove_entries(connection: Connection, selection: Selection) -> int:
    """Remove the selected entries and return their number. The table must be locked."""
    delete = sa.delete(suppressions).where(selection.build_condition())
    return connection.execute(delete).rowcount
