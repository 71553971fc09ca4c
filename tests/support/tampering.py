"""Invalid rows for tests of the audit."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.store.database import Database


@contextmanager
def without_constraints(database: Database) -> Iterator[Connection]:
    """Open a write transaction without the trigger and the CHECK constraints."""
    with database.write() as connection:
        if database.is_postgresql:
            connection.execute(sa.text("DROP TRIGGER messages_legal ON messages"))
            for table in ("messages", "transitions", "tallies"):
                for name in ("status", "reason", "attempt", "legal"):
                    drop = f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_{name}_check"
                    connection.execute(sa.text(drop))
            yield connection
        else:
            connection.execute(sa.text("DROP TRIGGER messages_legal"))
            connection.execute(sa.text("PRAGMA ignore_check_constraints = ON"))
            yield connection
            connection.execute(sa.text("PRAGMA ignore_check_constraints = OFF"))
