"""Campaigns can be paused."""

import sqlalchemy as sa
from alembic import op

revision = "0011_pauses"
down_revision = "0010_applied_migrations"
compatible = True

COMMENT = "One message to one audience over one channel. requires: a JSON list of required data. kind, services_kind: names of entry points in sendtrace.handlers and sendtrace.services. coupon_series: may name a series that the organization doesn't have. engagement_as_of: when its engagement was last rolled up. title: what people read beside the name. message: a JSON object of its templates and its size. keeps_suppressions: whether it adds to the suppression list of its organization. paused_at: since when a person has paused it; null if it isn't paused. resumed_at: when it was last resumed. Both are instants of the run's clock."


def upgrade() -> None:
    op.add_column("campaigns", sa.Column("paused_at", sa.BigInteger(), nullable=True))
    op.add_column("campaigns", sa.Column("resumed_at", sa.BigInteger(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        op.create_table_comment("campaigns", COMMENT)
