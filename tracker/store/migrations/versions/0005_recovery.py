"""Batches that are sent on again, and those that are taken apart to find what breaks a step."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

STEPS = "step IN ('enqueue', 'suppress', 'validate', 'dispatch', 'submit', 'deliver', 'engage')"


def upgrade() -> None:
    op.add_column(
        "runs", sa.Column("ahead", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("runs", sa.Column("given_up_at", sa.BigInteger(), nullable=True))
    if op.get_bind().dialect.supports_comments:
        op.create_table_comment(
            "runs",
            "Campaigns recorded together: one execution of a scenario. ahead: microseconds by which its clock was put forward. given_up_at: since when nobody is to go on with it.",
        )
    op.create_table(
        "recoveries",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(STEPS, name=op.f("recoveries_step_check")),
        sa.ForeignKeyConstraint(
            ["campaign_id", "batch"],
            ["batches.campaign_id", "batches.batch"],
            name=op.f("recoveries_campaign_id_batch_fkey"),
        ),
        sa.PrimaryKeyConstraint("campaign_id", "batch", name=op.f("recoveries_pkey")),
        sqlite_with_rowid=False,
        comment="Batches that stood still and were sent on again, as many times as nothing came of it: touched_at is the batch's when it was sent last, sent_at is real time.",
    )
    op.create_table(
        "parts",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("first", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(STEPS, name=op.f("parts_step_check")),
        sa.CheckConstraint("ended_at IS NULL OR size = 1", name=op.f("parts_ended_at_check")),
        sa.CheckConstraint("size >= 1", name=op.f("parts_size_check")),
        sa.ForeignKeyConstraint(
            ["campaign_id", "batch"],
            ["batches.campaign_id", "batches.batch"],
            name=op.f("parts_campaign_id_batch_fkey"),
        ),
        sa.PrimaryKeyConstraint("campaign_id", "batch", "step", "first", name=op.f("parts_pkey")),
        sqlite_with_rowid=False,
        comment="Message numbers first … first + size - 1 of a batch on which a step is done apart, as it came to no end on all: so many tries were begun. What ended was a message that broke every try, with the last error that is known.",
    )
