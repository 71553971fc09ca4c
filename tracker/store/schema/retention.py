"""Tables of the deletion of runs: unfinished deletions, and the highest ids that were given."""

from sqlalchemy import Column, Integer, String, Table, Text

from tracker.store.schema.metadata import metadata

prunes = Table(
    "prunes",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("campaigns", Text, nullable=False),
    comment="Runs whose deletion has begun and isn't complete. Nothing shows them any more."
    " campaigns: a JSON list of the ids of their campaigns, of which rows may be left.",
)

last_ids = Table(
    "last_ids",
    metadata,
    Column("table_name", String(32), primary_key=True),
    Column("last_id", Integer, nullable=False),
    comment="The highest id that rows of a table had when runs were deleted. SQLite would give it"
    " again, and tasks or log lines of a deleted campaign would seem to be those of a new one.",
)
