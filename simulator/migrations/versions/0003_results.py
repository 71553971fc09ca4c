"""The results of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "run_results",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("series", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("timeseries", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("run_results_pkey")),
        comment="What came of runs: summary.json and timeseries.csv as texts, by the version of their schema. Runs that repeat each other are one series, named after the first.",
    )
