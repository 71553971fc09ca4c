"""What a simulated gateway needs to be away, to refuse, and to lose or repeat its receipts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

LEDGER = "Messages that the simulated gateway accepted, once an attempt; repeats counts how often it was given one again. The receipt with the outcome is out from due_at on; null is never, it was lost."


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE gateway_ledger ALTER COLUMN due_at DROP NOT NULL")
        op.create_table_comment("gateway_ledger", LEDGER)
    else:
        _rebuild("gateway_ledger", "due_at BIGINT NOT NULL", "due_at BIGINT")
    op.create_table(
        "gateway_notices",
        *_key("campaign_id", "number", "attempt", "status", "copy"),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            *("campaign_id", "number", "attempt", "status", "copy"),
            name=op.f("gateway_notices_pkey"),
        ),
        comment="What the simulated gateway says beside the outcomes: receipts twice, those of an earlier attempt again, late bounces. Out from due_at on.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "gateway_rejections",
        *_key("campaign_id", "number", "attempt"),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "campaign_id", "number", "attempt", name=op.f("gateway_rejections_pkey")
        ),
        comment="How often the simulated gateway refused a message for now, before it accepted it.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "gateway_refused_calls",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("gateway_refused_calls_pkey")),
        comment="Calls on the simulated gateway while it was away.",
    )
    op.create_index(
        "gateway_refused_calls_campaign_id_idx",
        "gateway_refused_calls",
        ["campaign_id"],
        unique=False,
    )
    op.create_table(
        "gateway_magic",
        *_key("campaign_id", "number"),
        sa.Column("magic", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "number", name=op.f("gateway_magic_pkey")),
        comment="Recipients whose address forces what they do.",
        sqlite_with_rowid=False,
    )


def _key(*names: str) -> list[sa.Column[int]]:
    small = {"attempt", "status", "copy"}
    return [
        sa.Column(
            name,
            sa.SmallInteger() if name in small else sa.Integer(),
            autoincrement=False,
            nullable=False,
        )
        for name in names
    ]


def _rebuild(table: str, old: str, new: str) -> None:
    """Make a table anew with another column, which can't be changed on SQLite."""
    connection = op.get_bind()
    definition = connection.exec_driver_sql(
        f"SELECT sql FROM sqlite_master WHERE type = 'table' AND name = '{table}'"
    ).scalar_one()
    op.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    connection.exec_driver_sql(definition.replace(old, new))
    op.execute(f"INSERT INTO {table} SELECT * FROM old_{table}")
    op.execute(f"DROP TABLE old_{table}")
