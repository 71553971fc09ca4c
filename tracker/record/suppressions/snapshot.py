"""The suppression list as it stands when a run begins, which is a part of the run's input."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.record.suppressions.changes import KEY_COLUMNS
from tracker.record.suppressions.entries import READ_ROWS, upsert_entries
from tracker.status import Channel, SuppressionReason
from tracker.store.database import Database
from tracker.store.schema.catalog import customers, organizations
from tracker.store.schema.suppressions import run_suppressions, suppressions
from tracker.text import pluralize

SHOWN_DIGEST_DIGITS = 12
"""Digits of a digest that tell two lists apart for people; files have all."""

_COPIED = ("organization", "channel", "reason", "address", "count")


class ListSummary(NamedTuple):
    """The size of a list when a run began, and a digest of what it says.

    Attributes:
        digest: SHA-256 in hexadecimal digits. Sources and dates aren't a part of it.
    """

    entries: int
    digest: str

    def __str__(self) -> str:
        return f"{pluralize(self.entries, 'entry')}, digest {self.digest[:SHOWN_DIGEST_DIGITS]}"


class CopiedEntry(NamedTuple):
    """An entry of a list that was copied for a run; `bounces` is 1 for other reasons."""

    channel: Channel
    reason: SuppressionReason
    address: str
    bounces: int


def copy_list(connection: Connection, run_id: int, organization: str, now: Instant) -> None:
    """Copy the entries of an organization's list that count at an instant for a run."""
    listed = suppressions.c
    entries = sa.select(sa.literal(run_id, sa.Integer), *(listed[name] for name in _COPIED)).where(
        listed.organization == organization,
        sa.or_(listed.expires_at.is_(None), listed.expires_at > sa.literal(now, sa.BigInteger)),
    )
    connection.execute(sa.insert(run_suppressions).from_select(["run_id", *_COPIED], entries))


def read_copy(connection: Connection, run_id: int, organization: str) -> Iterator[CopiedEntry]:
    """Yield the list that was copied for a run, in the order of its key."""
    copied = run_suppressions.c
    query = (
        sa.select(copied.channel, copied.reason, copied.address, copied.count)
        .where(copied.run_id == run_id, copied.organization == organization)
        .order_by(copied.channel, copied.reason, copied.address)
        .execution_options(yield_per=READ_ROWS)
    )
    for channel, reason, *values in connection.execute(query):
        yield CopiedEntry(Channel(channel), SuppressionReason(reason), *values)


def summarize_copy(connection: Connection, run_id: int, organization: str) -> ListSummary:
    """Return the summary of a list that was copied for a run."""
    digest, size = hashlib.sha256(), 0
    for row in read_copy(connection, run_id, organization):
        digest.update("\t".join(map(str, row)).encode() + b"\n")
        size += 1
    return ListSummary(size, digest.hexdigest())


def record_summary(connection: Connection, organization_id: int, summary: ListSummary) -> None:
    """Record the summary of the list with which an organization's campaigns begin."""
    connection.execute(
        sa.update(organizations)
        .where(organizations.c.id == organization_id)
        .values(suppressions=summary.entries, suppressions_digest=summary.digest)
    )


def keep_imported_facts(
    database: Database, organization: str, audience_id: int, source: str, now: Instant
) -> None:
    """Add what an audience file says of its customers' opt-outs and bounces to a list.

    Each reason has its own transaction, because no other run can write its list meanwhile.
    """
    for channel, key in KEY_COLUMNS.items():
        for reason, column in _list_columns(channel):
            is_bounce = reason.is_bounce
            is_listed = column > 0 if is_bounce else column.is_(sa.true())
            entries = (
                sa.select(
                    sa.literal(organization, sa.Text),
                    sa.literal(channel, sa.Text),
                    sa.literal(reason, sa.Text),
                    key,
                    sa.func.max(column) if is_bounce else sa.literal(1, sa.Integer),
                    sa.literal(source, sa.Text),
                    sa.literal(now, sa.BigInteger),
                    sa.cast(sa.null(), sa.BigInteger),
                )
                .where(customers.c.audience_id == audience_id, key.is_not(None), is_listed)
                .group_by(key)
            )
            with database.write() as connection:
                database.lock_table(connection, suppressions)
                upsert_entries(database, connection, entries, now)


def apply_copy(connection: Connection, run_id: int, organization: str, audience_id: int) -> None:
    """Suppress the customers of an audience who are on the list that was copied for a run."""
    copied = run_suppressions.c
    for channel, key in KEY_COLUMNS.items():
        columns = [*_list_columns(channel)]
        # A mark as spam is an opt-out, too.
        columns.append((SuppressionReason.SPAM, customers.c[f"unsubscribed_{channel}"]))
        for reason, column in columns:
            # A subquery for a value is looked up for each customer. As a join, its plan would
            # depend on statistics that a table which was just filled doesn't have.
            count = (
                sa.select(copied.count)
                .where(
                    copied.run_id == run_id,
                    copied.organization == organization,
                    copied.channel == channel,
                    copied.reason == reason,
                    copied.address == key,
                )
                .scalar_subquery()
            )
            is_changed = count > column if reason.is_bounce else count.is_not(None)
            connection.execute(
                sa.update(customers)
                .where(customers.c.audience_id == audience_id, key.is_not(None), is_changed)
                .values({column: count if reason.is_bounce else True})
            )


def _list_columns(channel: Channel) -> Iterable[tuple[SuppressionReason, sa.Column[Any]]]:
    """Yield the columns of a customer that say the same as an entry, by its reason."""
    columns = customers.c
    yield SuppressionReason.UNSUBSCRIBED, columns[f"unsubscribed_{channel}"]
    yield SuppressionReason.SPAM, columns[f"marked_spam_{channel}"]
    if channel is Channel.SMS:
        yield SuppressionReason.NDNC, columns.ndnc
    yield SuppressionReason.HARD_BOUNCED, columns[f"hard_bounces_{channel}"]
    yield SuppressionReason.SOFT_BOUNCED, columns[f"soft_bounces_{channel}"]


def read_summaries(connection: Connection, run_id: int) -> dict[str, ListSummary]:
    """Return the summaries of the lists that a run began with, by its organizations' names."""
    query = (
        sa.select(
            organizations.c.name, organizations.c.suppressions, organizations.c.suppressions_digest
        )
        .where(organizations.c.run_id == run_id, organizations.c.suppressions.is_not(None))
        .order_by(organizations.c.name)
    )
    return {name: ListSummary(*values) for name, *values in connection.execute(query)}
