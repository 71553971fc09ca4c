"""Tables of the suppression lists that organizations keep from one run to the next."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import TEXT

from tracker.status import Channel, SuppressionReason
from tracker.store.schema.metadata import metadata, sql_string_list

# In the order of the code points, as on SQLite, whatever the collation of the database is.
_ADDRESS = Text().with_variant(TEXT(collation="C"), "postgresql")

suppressions = Table(
    "suppressions",
    metadata,
    Column("organization", Text, primary_key=True),
    Column("channel", String(8), primary_key=True),
    Column("reason", String(16), primary_key=True),
    Column("address", _ADDRESS, primary_key=True),
    Column("count", Integer, nullable=False, server_default=text("1")),
    Column("source", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    CheckConstraint(f"channel IN ({sql_string_list(Channel)})", name="channel"),
    CheckConstraint(f"reason IN ({sql_string_list(SuppressionReason)})", name="reason"),
    CheckConstraint("reason <> 'ndnc' OR channel = 'sms'", name="ndnc"),
    CheckConstraint("count >= 1", name="count"),
    sqlite_with_rowid=False,
    comment="Recipients that organizations with keep suppress in all runs. organization: its name."
    " address: an email address as it is compared, or a number in E.164. count: bounces; 1 for"
    " other reasons. source: where it comes from. since: when it was listed. expires_at: when it"
    " stops to count; null is never.",
)

run_suppressions = Table(
    "run_suppressions",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("organization", Text, primary_key=True),
    Column("channel", String(8), primary_key=True),
    Column("reason", String(16), primary_key=True),
    Column("address", _ADDRESS, primary_key=True),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
    comment="The entries of suppressions that counted when a run began: a part of its input.",
)
