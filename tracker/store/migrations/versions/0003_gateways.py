"""Receipts as they really come, a gateway's rate, engagement and its rollup."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


COMMENTS = {
    "gateways": "What takes messages over. Kind is the name of an entry point in sendtrace.gateways; rate is how many messages a second it takes, null is unlimited; what bounced softly is offered again retry_after microseconds later.",
    "campaigns": "One message to one audience over one channel. requires is a JSON list. Kind and services_kind are names of entry points in sendtrace.handlers and sendtrace.services; coupon_series may name one that the organization does not have. engagement_as_of: when its engagement was last rolled up.",
    "batches": "Message numbers first … first + size - 1. touched_at: when a step last changed it. receipts_due_at, engagement_due_at: from when on the gateway may have more to tell; null is never.",
}


def upgrade() -> None:
    op.add_column("gateways", sa.Column("rate", sa.Integer()))
    op.add_column(
        "gateways",
        sa.Column("retry_after", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    )
    op.add_column("campaigns", sa.Column("engagement_as_of", sa.BigInteger()))
    op.add_column("batches", sa.Column("receipts_due_at", sa.BigInteger()))
    op.add_column("batches", sa.Column("engagement_due_at", sa.BigInteger()))
    op.create_table(
        "engagement_tallies",
        *_key("campaign_id", "kind", "batch", "quarter"),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.Column("rolled", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("kind IN (1, 2, 3, 4, 5)", name=op.f("engagement_tallies_kind_check")),
        sa.CheckConstraint("recipients >= 0", name=op.f("engagement_tallies_recipients_check")),
        sa.PrimaryKeyConstraint(
            "campaign_id", "kind", "batch", "quarter", name=op.f("engagement_tallies_pkey")
        ),
        comment="How many recipients of a batch did something for the first time in a quarter of an hour, counted from 1970-01-01 00:00 UTC; rolled: how many of them the days count already.",
        sqlite_with_rowid=False,
    )
    op.create_index(
        "engagement_tallies_new_idx",
        "engagement_tallies",
        ["campaign_id"],
        unique=False,
        sqlite_where=sa.text("recipients <> rolled"),
        postgresql_where=sa.text("recipients <> rolled"),
    )
    op.create_table(
        "engagement_days",
        *_key("campaign_id"),
        sa.Column("day", sa.String(length=10), nullable=False),
        *_key("kind"),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.CheckConstraint("kind IN (1, 2, 3, 4, 5)", name=op.f("engagement_days_kind_check")),
        sa.CheckConstraint("recipients >= 0", name=op.f("engagement_days_recipients_check")),
        sa.PrimaryKeyConstraint("campaign_id", "day", "kind", name=op.f("engagement_days_pkey")),
        comment="The rollup: how many recipients did something for the first time on a local day, as in 2026-11-24.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "transition_details",
        *_key("campaign_id", "number", "attempt", "status"),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "campaign_id", "number", "attempt", "status", name=op.f("transition_details_pkey")
        ),
        comment="What a gateway said beside the outcome of an attempt, such as an enhanced status code (RFC 3463).",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "refused_receipts",
        *_key("campaign_id"),
        *(
            sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)
            for name in ("number", "attempt", "status", "copy")
        ),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(length=9), nullable=False),
        sa.CheckConstraint(
            "verdict IN ('duplicate', 'stale', 'unknown')",
            name=op.f("refused_receipts_verdict_check"),
        ),
        sa.PrimaryKeyConstraint(
            *("campaign_id", "number", "attempt", "status", "copy"),
            name=op.f("refused_receipts_pkey"),
        ),
        comment="Receipts that did not count, each once, as the gateway gave them; copy tells those apart that say the same.",
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE engagements DROP CONSTRAINT engagements_kind_check")
        op.execute(
            "ALTER TABLE engagements ADD CONSTRAINT engagements_kind_check"
            " CHECK (kind IN (1, 2, 3, 4, 5))"
        )
        for table, comment in COMMENTS.items():
            op.create_table_comment(table, comment)
    else:
        _rebuild("engagements", "kind IN (1, 2, 3, 4)", "kind IN (1, 2, 3, 4, 5)")
    _tally_what_is_there()
    _expect_what_is_out()


def _key(*names: str) -> list[sa.Column[int]]:
    small = {"kind", "attempt", "status"}
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
    """Make a table anew with another constraint, which can't be changed on SQLite."""
    connection = op.get_bind()
    definition = connection.exec_driver_sql(
        f"SELECT sql FROM sqlite_master WHERE type = 'table' AND name = '{table}'"
    ).scalar_one()
    op.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    connection.exec_driver_sql(definition.replace(old, new))
    op.execute(f"INSERT INTO {table} SELECT * FROM old_{table}")
    op.execute(f"DROP TABLE old_{table}")


def _tally_what_is_there() -> None:
    """Count the events of earlier runs, of which there was no tally."""
    op.execute(
        """
        INSERT INTO engagement_tallies (campaign_id, batch, kind, quarter, recipients)
        SELECT firsts.campaign_id, batches.batch, kind, first_at / 900000000, count(*)
        FROM (
            SELECT campaign_id, kind, number, min(at) AS first_at
            FROM engagements GROUP BY campaign_id, kind, number
        ) AS firsts
        JOIN batches ON batches.campaign_id = firsts.campaign_id
            AND firsts.number >= batches.first AND firsts.number < batches.first + batches.size
        GROUP BY firsts.campaign_id, batches.batch, kind, first_at / 900000000
        """
    )


def _expect_what_is_out() -> None:
    """Whose outcome or engagement was not known yet is asked for again."""
    held = (
        "SELECT 1 FROM tallies WHERE tallies.campaign_id = batches.campaign_id"
        " AND tallies.batch = batches.batch AND messages > 0 AND status"
    )
    in_gateway, delivered = 3, 6
    op.execute(
        f"UPDATE batches SET receipts_due_at = touched_at WHERE EXISTS ({held} = {in_gateway})"
    )
    op.execute(
        f"""
        UPDATE batches SET engagement_due_at = 0 WHERE EXISTS ({held} = {delivered})
        AND campaign_id IN (SELECT id FROM campaigns WHERE tracks_engagement)
        AND NOT EXISTS (
            SELECT 1 FROM steps WHERE steps.campaign_id = batches.campaign_id
            AND steps.batch = batches.batch AND step = 'engage'
        )
        """
    )
