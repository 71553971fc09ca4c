"""Queued messages that a check deferred, and when they are judged again.

A batch has their number and the earliest of their times. Both are updated in the entry that defers
messages, or that moves them. A batch without deferred messages costs nothing.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.record.catalog import Batch, Campaign
from tracker.record.predicates import is_of_batch, is_same_message
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages
from tracker.store.schema.work import deferrals


class Deferral(NamedTuple):
    """The check that deferred a message, until when, and when the first check did."""

    check_name: str
    until: Instant
    first_deferred_at: Instant


_COLUMNS = (deferrals.c.check_name, deferrals.c.until, deferrals.c.first_deferred_at)


def read_deferrals(connection: Connection, batch: Batch) -> dict[int, Deferral]:
    """Return the deferrals of a batch by message number."""
    query = sa.select(deferrals.c.number, *_COLUMNS).where(is_of_batch(deferrals, batch))
    return {number: Deferral(*row) for number, *row in connection.execute(query)}


def read_deferral(
    connection: Connection, campaign: Campaign, batch: int, number: int
) -> Deferral | None:
    """Return the deferral of a message, None unless it is deferred."""
    query = sa.select(*_COLUMNS).where(
        deferrals.c.campaign_id == campaign.id,
        deferrals.c.batch == batch,
        deferrals.c.number == number,
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Deferral(*row)


def replace_deferrals(
    database: Database, connection: Connection, batch: Batch, by_number: Mapping[int, Deferral]
) -> None:
    """Record deferrals of messages, in place of earlier ones of the same messages."""
    numbers = [*by_number]
    connection.execute(
        sa.delete(deferrals).where(
            is_of_batch(deferrals, batch), database.in_list(deferrals.c.number, numbers)
        )
    )
    rows = database.table_from_columns(
        number=numbers,
        check_name=[deferral.check_name for deferral in by_number.values()],
        until=[deferral.until for deferral in by_number.values()],
        first_deferred_at=[deferral.first_deferred_at for deferral in by_number.values()],
    )
    key = [sa.literal(value, sa.Integer) for value in (batch.campaign.id, batch.batch)]
    connection.execute(
        sa.insert(deferrals).from_select(
            ["campaign_id", "batch", *rows.c.keys()], sa.select(*key, *rows.c)
        )
    )


def update_deferred_batch(connection: Connection, batch: Batch) -> None:
    """Forget the deferrals of messages that have moved, and bring the batch's row up to date."""
    is_queued = sa.exists().where(
        is_same_message(messages, deferrals), messages.c.status == Status.QUEUED
    )
    connection.execute(sa.delete(deferrals).where(is_of_batch(deferrals, batch), ~is_queued))
    rows = sa.select(sa.func.count(), sa.func.min(deferrals.c.until)).where(
        is_of_batch(deferrals, batch)
    )
    count, due_at = connection.execute(rows).one()
    connection.execute(
        sa.update(batches)
        .where(is_of_batch(batches, batch))
        .values(deferred=count, deferral_due_at=due_at)
    )


def is_deferred(batch: Batch) -> sa.ColumnElement[bool]:
    """Return the SQL condition that a check has deferred a row of `messages`, of a batch."""
    return sa.exists().where(is_of_batch(deferrals, batch), deferrals.c.number == messages.c.number)


def find_waiting(by_number: Mapping[int, Deferral], now: Instant) -> Collection[int]:
    """Return the numbers of the messages that are not judged again yet."""
    return {number for number, deferral in by_number.items() if deferral.until > now}
