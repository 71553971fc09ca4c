"""What gateways report on their own account."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "reports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=17), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('receipts_due_at', 'engagement_due_at')", name=op.f("reports_kind_check")
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id", "batch"],
            ["batches.campaign_id", "batches.batch"],
            name=op.f("reports_campaign_id_batch_fkey"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("reports_pkey")),
        comment="What a gateway has reported of a batch on its own account, and no step has applied yet: a JSON list of receipts, or of engagement. Kind is the column of batches that says it is due. received_at is real time.",
    )
    op.create_index(
        op.f("reports_campaign_id_batch_idx"), "reports", ["campaign_id", "batch"], unique=False
    )
