"""Delete runs in two phases: hide a run in one short transaction, then delete its rows in batches.

After the first phase nothing refers to the rows that are left, so an interruption leaves a
consistent record, and the next deletion goes on.
"""

import json
import time
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection, Table

from tracker.record.retention.ids import keep_last_ids
from tracker.store.database import Database
from tracker.store.schema.catalog import audiences, campaigns, organizations, runs
from tracker.store.schema.retention import prunes
from tracker.store.schema.tables import TRACKER_TABLES
from tracker.store.schema.work import actions

BATCH_ROWS = 10_000
"""Rows that one transaction deletes: about as many as a step of a campaign writes."""

OWNER_COLUMNS = ("campaign_id", "audience_id", "organization_id", "run_id")
"""Columns that name the owner of a row; the first one that a table has decides."""

KEPT_TABLES = (prunes, actions)
"""Tables with such a column whose rows outlive their run."""

IS_NOT_PRUNED = runs.c.id.not_in(sa.select(prunes.c.run_id))
"""The condition that the deletion of a run has not begun."""

Owners = dict[str, Sequence[int]]
"""The ids of a run and of what belongs to it, by the column that names them."""


def hide_run(database: Database, run_id: int, can_prune: sa.ColumnElement[bool]) -> bool:
    """Delete a run's campaigns and batches, so that nothing shows or continues it any more.

    Args:
        can_prune: condition on the run.

    Returns:
        False if the condition isn't true.
    """
    with database.write() as connection:
        query = sa.select(runs.c.id).where(runs.c.id == run_id, IS_NOT_PRUNED, can_prune)
        if connection.scalar(query.with_for_update(of=runs)) is None:
            return False
        keep_last_ids(database, connection)
        query = sa.select(campaigns.c.id).where(campaigns.c.run_id == run_id)
        ids = [*connection.scalars(query.order_by(campaigns.c.id))]
        connection.execute(sa.insert(prunes).values(run_id=run_id, campaigns=json.dumps(ids)))
        for table in _list_dependents(campaigns):
            connection.execute(sa.delete(table).where(table.c.campaign_id.in_(ids)))
        connection.execute(sa.delete(campaigns).where(campaigns.c.run_id == run_id))
    return True


def list_hidden_runs(connection: Connection) -> list[int]:
    """Return the runs whose deletion has begun and isn't complete."""
    return [*connection.scalars(sa.select(prunes.c.run_id).order_by(prunes.c.run_id))]


def read_owners(connection: Connection, run_id: int) -> Owners:
    """Return the ids of a run and of what belongs to it, also if it is hidden."""
    query = sa.select(campaigns.c.id).where(campaigns.c.run_id == run_id)
    campaign_ids = [*connection.scalars(query)]
    hidden = connection.scalar(sa.select(prunes.c.campaigns).where(prunes.c.run_id == run_id))
    query = sa.select(organizations.c.id).where(organizations.c.run_id == run_id)
    organization_ids = [*connection.scalars(query)]
    query = sa.select(audiences.c.id).where(audiences.c.organization_id.in_(organization_ids))
    return {
        "campaign_id": campaign_ids if hidden is None else json.loads(hidden),
        "audience_id": [*connection.scalars(query)],
        "organization_id": organization_ids,
        "run_id": [run_id],
    }


def list_owned_tables(other_tables: Sequence[Table]) -> list[tuple[Table, str]]:
    """Return the tables whose rows belong to a run, and the column that says so.

    Each comes before the tables that it refers to.

    Args:
        other_tables: tables of higher layers.
    """
    tables = (*other_tables, *reversed(TRACKER_TABLES))
    owned = ((table, _find_owner_column(table)) for table in tables if table not in KEPT_TABLES)
    return [(table, column) for table, column in owned if column is not None]


def delete_rows(database: Database, run_id: int, other_tables: Sequence[Table]) -> Iterator[int]:
    """Delete what is left of a hidden run; yield the number of rows of each transaction.

    Between two transactions it pauses for as long as the last one took, so that running campaigns
    get at least half of the database's time.

    Args:
        other_tables: tables of higher layers.
    """
    with database.read() as connection:
        owners = read_owners(connection, run_id)
        parts = [
            (table, is_owned)
            for table, column in list_owned_tables(other_tables)
            for is_owned in (table.c[column] == owner_id for owner_id in owners[column])
            if connection.scalar(sa.select(sa.exists().where(is_owned)))
        ]
    for table, is_owned in parts:
        yield from _delete_batches(database, table, is_owned)
    with database.write() as connection:
        connection.execute(sa.delete(runs).where(runs.c.id == run_id))
        connection.execute(sa.delete(prunes).where(prunes.c.run_id == run_id))
    yield 1


def _delete_batches(
    database: Database, table: Table, is_owned: sa.ColumnElement[bool]
) -> Iterator[int]:
    """Delete rows by ranges of the key, each beyond the last one.

    PostgreSQL would otherwise pass over all the deleted rows again each time.
    """
    key = sa.tuple_(*table.primary_key)
    is_left, last = is_owned, None
    while True:
        started = time.monotonic()
        with database.write() as connection:
            query = sa.select(*table.primary_key).where(is_left).order_by(*table.primary_key)
            last = connection.execute(query.offset(BATCH_ROWS - 1).limit(1)).one_or_none()
            chosen = is_left if last is None else sa.and_(is_left, key <= sa.tuple_(*last))
            deleted = connection.execute(sa.delete(table).where(chosen)).rowcount
        yield deleted
        if last is None:
            return
        is_left = sa.and_(is_owned, key > sa.tuple_(*last))
        time.sleep(time.monotonic() - started)


def _find_owner_column(table: Table) -> str | None:
    return next((name for name in OWNER_COLUMNS if name in table.c), None)


def _list_dependents(table: Table) -> list[Table]:
    """Return the tables whose rows must go before those of a table, the last one first."""
    dependents: list[Table] = []
    for other in TRACKER_TABLES:
        targets = {key.column.table for key in other.foreign_keys}
        if targets & {table, *dependents}:
            dependents.append(other)
    return dependents[::-1]
