"""The action log."""

import sqlalchemy as sa
from alembic import op

revision = "0009_actions"
down_revision = "0008_initial"
compatible = True


def upgrade() -> None:
    op.create_table(
        "actions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=8), nullable=False),
        sa.Column("target_kind", sa.String(length=8), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=True),
        sa.Column("batch", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint(
            "action IN ('pause', 'resume', 'cancel', 'requeue', 'stop')",
            name=op.f("actions_action_check"),
        ),
        sa.CheckConstraint(
            "target_kind IN ('campaign', 'queue', 'batch', 'run')",
            name=op.f("actions_target_kind_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("actions_pkey")),
        comment="What people did: the action log. at: real time, by the database's clock. actor: who. target: the name of the campaign or queue, CAMPAIGN/BATCH, or the number of the run. campaign_id, batch, run_id: keys of the target, where it has them; a campaign has its run's. reason: why; may be empty.",
    )
