"""The migrations that made a schema, so that workers can read the mark of one that is newer."""

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.store.schema.applied_migrations import applied_migrations


def record_applied(connection: Connection, layer: str, compatible: Mapping[str, bool]) -> None:
    """Record the migrations of a layer that weren't yet.

    Args:
        compatible: the mark of each applied migration, by its revision.
    """
    known = sa.select(applied_migrations.c.revision).where(applied_migrations.c.layer == layer)
    recorded = set(connection.scalars(known))
    rows = [
        {"layer": layer, "revision": revision, "compatible": is_compatible}
        for revision, is_compatible in compatible.items()
        if revision not in recorded
    ]
    if rows:
        connection.execute(sa.insert(applied_migrations), rows)
