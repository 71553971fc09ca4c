"""Ids that are never given twice, even if the rows that had them were deleted.

Sequences of PostgreSQL never go back. SQLite gives the highest id of a table plus one.
"""

import sqlalchemy as sa
from sqlalchemy import Connection, Table

from tracker.store.database import Database
from tracker.store.schema.catalog import audiences, campaigns, gateways, organizations, runs
from tracker.store.schema.retention import last_ids

TABLES_WITH_IDS = (runs, organizations, gateways, audiences, campaigns)
"""Tables whose ids others keep: tasks, workers' caches, logs and folders."""


def find_next_id(connection: Connection, table: Table) -> int:
    """Return an id that no row of a SQLite table has or had. The transaction must write."""
    return _find_last_id(connection, table) + 1


def keep_last_ids(database: Database, connection: Connection) -> None:
    """Record the highest ids before rows are deleted, where the database doesn't do it itself."""
    if database.is_postgresql:
        return
    rows = [
        {"table_name": table.name, "last_id": _find_last_id(connection, table)}
        for table in TABLES_WITH_IDS
    ]
    connection.execute(database.insert_or_replace(last_ids, "last_id"), rows)


def _find_last_id(connection: Connection, table: Table) -> int:
    recorded = sa.select(last_ids.c.last_id).where(last_ids.c.table_name == table.name)
    highest = connection.scalar(sa.select(sa.func.max(table.c.id)))
    return max(highest or 0, connection.scalar(recorded) or 0)
