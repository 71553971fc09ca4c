"""What the driver was told is queued."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "driver_acknowledged",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("size >= 1", name=op.f("driver_acknowledged_size_check")),
        sa.PrimaryKeyConstraint("campaign_id", "first", name=op.f("driver_acknowledged_pkey")),
        sqlite_with_rowid=False,
        comment="What the driver was told is queued: message numbers first … first + size - 1, written down after the record had taken them. at is real time.",
    )
