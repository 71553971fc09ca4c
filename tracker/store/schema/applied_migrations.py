"""The table of the migrations that made the schema, for workers that don't know all of them."""

from sqlalchemy import Boolean, Column, String, Table

from tracker.store.schema.metadata import metadata

applied_migrations = Table(
    "applied_migrations",
    metadata,
    Column("layer", String(16), primary_key=True),
    Column("revision", String(32), primary_key=True),
    Column("compatible", Boolean, nullable=False),
    sqlite_with_rowid=False,
    comment="The migrations that made the schema. layer: the package whose tables they change."
    " compatible: whether workers of the previous schema go on; otherwise they stop taking tasks.",
)
