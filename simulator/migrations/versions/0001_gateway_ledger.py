"""The first tables. Written out, so that it stays what it is when the vocabulary grows."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "gateway_ledger",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("repeats", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("due_at >= accepted_at", name=op.f("gateway_ledger_due_at_check")),
        sa.CheckConstraint("outcome IN (4, 5, 6, 7)", name=op.f("gateway_ledger_outcome_check")),
        sa.PrimaryKeyConstraint(
            "campaign_id", "number", "attempt", name=op.f("gateway_ledger_pkey")
        ),
        comment="Messages that the simulated gateway accepted, once an attempt; repeats counts how often it was given one again. The receipt with the outcome is out from due_at on.",
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "sqlite":
        op.get_bind().exec_driver_sql(
            "INSERT INTO sqlite_stat1 (tbl, idx, stat)"
            " VALUES ('gateway_ledger', 'gateway_ledger', '1000000 100000 2 1')"
        )
