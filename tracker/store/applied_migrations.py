"""The migrations that made a schema, so that workers can read the mark of one that is newer."""

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.errors import DatabaseTooNew
from tracker.store.database import Database
from tracker.store.schema.applied_migrations import applied_migrations

_incompatible = sa.select(applied_migrations.c.layer, applied_migrations.c.revision).where(
    sa.not_(applied_migrations.c.compatible)
)


def record_applied(connection: Connection, layer: str, compatible: Mapping[str, bool]) -> None:
    """Record the migrations of a layer that weren't yet.

    Args:
        compatible: the mark of each applied migration, by its revision.
    """
    query = sa.select(applied_migrations.c.revision).where(applied_migrations.c.layer == layer)
    recorded = set(connection.scalars(query))
    rows = [
        {"layer": layer, "revision": revision, "compatible": is_compatible}
        for revision, is_compatible in compatible.items()
        if revision not in recorded
    ]
    if rows:
        connection.execute(sa.insert(applied_migrations), rows)


def read_incompatible(connection: Connection) -> set[tuple[str, str]]:
    """Return layer and revision of the migrations that stop workers of the schema before them."""
    return {(row.layer, row.revision) for row in connection.execute(_incompatible)}


class SchemaWatch:
    """Looks for incompatible migrations since a process began to use a database.

    That is one query of a few rows, and needs no list of the layers.
    """

    def __init__(self, database: Database) -> None:
        self._url = database.redacted_url
        with database.read() as connection:
            self._known = read_incompatible(connection)

    def check(self, connection: Connection) -> None:
        """Raise `DatabaseTooNew` if an incompatible migration was applied."""
        for layer, revision in sorted(read_incompatible(connection) - self._known):
            raise DatabaseTooNew(
                f"the database {self._url} was upgraded by a newer version of sendtrace (its"
                f" {layer} tables are at {revision}); use that version"
            )
