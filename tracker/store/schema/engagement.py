"""Tables of engagement: events, their tallies by quarter of an hour, and the rollup by day."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    text,
)

from tracker.status import Engagement
from tracker.store.schema.metadata import metadata, sql_code_list

engagements = Table(
    "engagements",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    CheckConstraint(f"kind IN ({sql_code_list(Engagement)})", name="kind"),
    sqlite_with_rowid=False,
    comment="What recipients did with messages, each event once. Opt-outs may be recorded before"
    " the delivery.",
)

engagement_tallies = Table(
    "engagement_tallies",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("batch", Integer, primary_key=True, autoincrement=False),
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    Column("recipients", Integer, nullable=False),
    Column("rolled", Integer, nullable=False, server_default=text("0")),
    CheckConstraint(f"kind IN ({sql_code_list(Engagement)})", name="kind"),
    CheckConstraint("recipients >= 0", name="recipients"),
    Index(
        "engagement_tallies_new_idx",
        "campaign_id",
        sqlite_where=text("recipients <> rolled"),
        postgresql_where=text("recipients <> rolled"),
    ),
    sqlite_with_rowid=False,
    comment="Recipients of a batch whose first event of a kind falls in a quarter of an hour."
    " quarter: counted from 1970-01-01 00:00 UTC. rolled: how many of them engagement_days counts"
    " already.",
)

engagement_days = Table(
    "engagement_days",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("day", String(10), primary_key=True),
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("recipients", Integer, nullable=False),
    CheckConstraint(f"kind IN ({sql_code_list(Engagement)})", name="kind"),
    CheckConstraint("recipients >= 0", name="recipients"),
    sqlite_with_rowid=False,
    comment="The rollup: recipients whose first event of a kind falls on a local day, such as"
    " 2026-11-24.",
)

engaged_then_bounced = Table(
    "engaged_then_bounced",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("batch", Integer, primary_key=True, autoincrement=False),
    Column("messages", Integer, nullable=False),
    CheckConstraint("messages >= 0", name="messages"),
    sqlite_with_rowid=False,
    comment="Messages of a batch that bounced although their recipients engaged. The other tables"
    " of counts leave them out.",
)
