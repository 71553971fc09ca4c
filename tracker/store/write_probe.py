"""Test whether the database can be written, by a small write that is committed.

SQLite and PostgreSQL notice a full disk only when they commit. So a write that is rolled back would
succeed on a full disk.
"""

from pathlib import Path

from tracker.clock import SystemClock
from tracker.store.database import Database
from tracker.store.schema.work import upkeep

WRITE_PROBE = "write-probe"
"""The row of the table `upkeep` that the probe writes."""


def check_writable(database: Database) -> None:
    """Write the time to one row; raise the driver's error if that fails."""
    statement = database.insert_or_replace(upkeep, "ran_at")
    with database.write() as connection:
        connection.execute(statement.values(task=WRITE_PROBE, ran_at=SystemClock().now()))


def database_file(database: Database) -> Path | None:
    """Return the file of a SQLite database, None for a server."""
    name = database.engine.url.database
    if database.is_postgresql or not name or name.startswith("file:"):
        return None
    return Path(name)
