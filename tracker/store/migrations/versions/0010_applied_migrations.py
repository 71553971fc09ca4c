"""The table of applied migrations."""

import sqlalchemy as sa
from alembic import op

revision = "0010_applied_migrations"
down_revision = "0009_actions"
compatible = True


def upgrade() -> None:
    op.create_table(
        "applied_migrations",
        sa.Column("layer", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.String(length=32), nullable=False),
        sa.Column("compatible", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("layer", "revision", name=op.f("applied_migrations_pkey")),
        comment="The migrations that made the schema. layer: the package whose tables they change. compatible: whether workers of the previous schema go on; otherwise they stop taking tasks.",
        sqlite_with_rowid=False,
    )
