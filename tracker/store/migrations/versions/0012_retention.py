"""Deletion of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0012_retention"
down_revision = "0011_pauses"
compatible = True


def upgrade() -> None:
    op.create_table(
        "prunes",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("campaigns", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("prunes_pkey")),
        comment="Runs whose deletion has begun and isn't complete. Nothing shows them any more. campaigns: a JSON list of the ids of their campaigns, of which rows may be left.",
    )
    op.create_table(
        "last_ids",
        sa.Column("table_name", sa.String(length=32), nullable=False),
        sa.Column("last_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("table_name", name=op.f("last_ids_pkey")),
        comment="The highest id that rows of a table had when runs were deleted. SQLite would give it again, and tasks or log lines of a deleted campaign would seem to be those of a new one.",
    )
