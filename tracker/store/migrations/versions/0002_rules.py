"""What every reason's check looks at: limits, channels, coupon series, bounces by channel."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


COMMENTS = {
    "organizations": "Who sends. Credit counts messages; null is unlimited. message_limit: messages a customer within message_limit_days; null is unlimited. channels is a JSON object.",
    "campaigns": "One message to one audience over one channel. requires is a JSON list. Kind and services_kind are names of entry points in sendtrace.handlers and sendtrace.services; coupon_series may name one that the organization does not have.",
}


def upgrade() -> None:
    op.add_column("organizations", sa.Column("message_limit", sa.Integer()))
    op.add_column("organizations", _count("message_limit_days", 1))
    op.add_column("organizations", _text("channels", "{}"))
    op.add_column(
        "gateways", sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.true())
    )
    # A bounce is about an address, and a customer has one for each channel.
    for kind in ("hard", "soft"):
        op.execute(f"ALTER TABLE customers RENAME COLUMN {kind}_bounces TO {kind}_bounces_email")
        if op.get_bind().dialect.name == "postgresql":
            constraint = f"customers_{kind}_bounces%s_not_null"
            op.execute(
                f"ALTER TABLE customers RENAME CONSTRAINT {constraint % ''} TO {constraint % '_email'}"
            )
        op.add_column("customers", _count(f"{kind}_bounces_sms", 0))
        op.execute(f"UPDATE customers SET {kind}_bounces_sms = {kind}_bounces_email")
    op.create_table(
        "coupon_series",
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="coupon_series_organization_id_fkey"
        ),
        sa.PrimaryKeyConstraint("organization_id", "name", name="coupon_series_pkey"),
        comment="Coupons that are given out together.",
    )
    op.add_column("campaigns", _text("kind", "promotion"))
    op.add_column("campaigns", sa.Column("sender", sa.Text()))
    op.add_column("campaigns", sa.Column("coupon_series", sa.Text()))
    op.add_column("campaigns", _text("services_kind", "sql"))
    op.add_column("campaigns", _text("services_settings", "{}"))
    op.add_column(
        "campaigns",
        sa.Column("tracks_engagement", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "engagements",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("kind IN (1, 2, 3, 4)", name=op.f("engagements_kind_check")),
        sa.PrimaryKeyConstraint("campaign_id", "kind", "number", "at", name="engagements_pkey"),
        comment="What recipients did with delivered messages, each event once.",
        sqlite_with_rowid=False,
    )
    _allow_step("engage")
    if op.get_bind().dialect.name == "postgresql":
        for table, comment in COMMENTS.items():
            op.create_table_comment(table, comment)


def _allow_step(step: str) -> None:
    """Let the table of steps hold one more; a constraint can't be changed on SQLite."""
    words = "'enqueue', 'suppress', 'validate', 'dispatch', 'submit', 'deliver'"
    check = f"CONSTRAINT steps_step_check CHECK (step IN ({words}"
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE steps DROP CONSTRAINT steps_step_check")
        op.execute(f"ALTER TABLE steps ADD {check}, '{step}'))")
        return
    definition = (
        op.get_bind()
        .exec_driver_sql("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'steps'")
        .scalar_one()
    )
    op.execute("DROP INDEX steps_campaign_id_batch_idx")
    op.execute("ALTER TABLE steps RENAME TO old_steps")
    op.get_bind().exec_driver_sql(definition.replace(words, f"{words}, '{step}'"))
    op.execute("INSERT INTO steps SELECT * FROM old_steps")
    op.execute("DROP TABLE old_steps")
    op.create_index("steps_campaign_id_batch_idx", "steps", ["campaign_id", "batch"], unique=False)


def _count(name: str, default: int) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False, server_default=sa.text(str(default)))


def _text(name: str, default: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default=sa.text(f"'{default}'"))
