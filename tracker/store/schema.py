"""The tables. What must never be recorded is refused by constraints generated from the vocabulary.

Statuses, reasons and categories are stored as the codes of :mod:`tracker.status`, moments as
instants (:mod:`tracker.clock`). Reason 0 stands for none. The views ``messages_by_name`` and
``transitions_by_name`` show the same rows in words, for people with a SQL prompt.
"""

from collections.abc import Iterable

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    false,
    text,
    true,
)

from tracker.status import (
    IN_PROGRESS_STATUSES,
    LEGAL_TRANSITIONS,
    Channel,
    Engagement,
    Reason,
    ReceiptVerdict,
    Status,
    Step,
)

NO_REASON = 0
"""Stands in the reason column of everything that is not Not Sent."""

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def _sql_code_list(codes: Iterable[int]) -> str:
    return ", ".join(str(int(code)) for code in sorted(codes))


def _sql_string_list(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _legal_change_sql(previous: str, status: str) -> str:
    """SQL that is true where ``status`` may follow ``previous`` (which must not be null)."""
    cases = " ".join(
        f"WHEN {source} THEN {status} IN ({_sql_code_list(targets)})"
        for source, targets in LEGAL_TRANSITIONS.items()
        if source is not None and targets
    )
    return f"CASE {previous} {cases} ELSE 1 = 0 END"


def _legal_transition_sql() -> str:
    beginnings = f"status IN ({_sql_code_list(LEGAL_TRANSITIONS[None])})"
    changes = _legal_change_sql("previous", "status")
    return f"CASE WHEN previous IS NULL THEN {beginnings} ELSE {changes} END"


_VALID_STATUS = f"status IN ({_sql_code_list(Status)})"
_VALID_REASON = (
    f"(status = {Status.NOT_SENT:d} AND reason IN ({_sql_code_list(Reason)}))"
    f" OR (status <> {Status.NOT_SENT:d} AND reason = {NO_REASON})"
)
_VALID_ATTEMPT = (
    f"(status IN ({_sql_code_list({*IN_PROGRESS_STATUSES, Status.NOT_SENT})}) AND attempt = 0)"
    f" OR (status NOT IN ({_sql_code_list({*IN_PROGRESS_STATUSES, Status.NOT_SENT})}) AND attempt >= 1)"
)


def _state_checks() -> list[CheckConstraint]:
    return [
        CheckConstraint(_VALID_STATUS, name="status"),
        CheckConstraint(_VALID_REASON, name="reason"),
        CheckConstraint(_VALID_ATTEMPT, name="attempt"),
    ]


runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("scenario", Text, nullable=False),
    Column("seed", BigInteger),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("speed", Float, nullable=False, server_default=text("1")),
    Column("definition", Text, nullable=False),
    Column("ahead", BigInteger, nullable=False, server_default=text("0")),
    Column("given_up_at", BigInteger),
    CheckConstraint("speed > 0", name="speed"),
    comment="Campaigns recorded together: one execution of a scenario. ahead: microseconds by which"
    " its clock was put forward. given_up_at: since when nobody is to go on with it.",
)

organizations = Table(
    "organizations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    Column("credit", BigInteger),
    Column("hard_bounce_limit", Integer, nullable=False, server_default=text("1")),
    Column("soft_bounce_limit", Integer, nullable=False, server_default=text("3")),
    Column("message_limit", Integer),
    Column("message_limit_days", Integer, nullable=False, server_default=text("1")),
    Column("channels", Text, nullable=False, server_default=text("'{}'")),
    CheckConstraint("credit >= 0", name="credit"),
    comment="Who sends. Credit counts messages; null is unlimited. message_limit: messages a"
    " customer within message_limit_days; null is unlimited. channels is a JSON object.",
)

gateways = Table(
    "gateways",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    Column("rate", Integer),
    Column("retry_after", BigInteger, nullable=False, server_default=text("0")),
    comment="What takes messages over. Kind is the name of an entry point in sendtrace.gateways;"
    " rate is how many messages a second it takes, null is unlimited; what bounced softly is"
    " offered again retry_after microseconds later.",
)

audiences = Table(
    "audiences",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("organization_id", ForeignKey("organizations.id"), nullable=False),
    Column("source", Text, nullable=False),
    comment="The customers of one campaign, or of several.",
)

customers = Table(
    "customers",
    metadata,
    Column("audience_id", ForeignKey("audiences.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("customer_id", Text, nullable=False),
    Column("email", Text),
    Column("mobile", Text),
    Column("mobile_e164", String(16)),
    Column("loyalty_member", Boolean, nullable=False, server_default=false()),
    Column("unsubscribed_email", Boolean, nullable=False, server_default=false()),
    Column("unsubscribed_sms", Boolean, nullable=False, server_default=false()),
    Column("ndnc", Boolean, nullable=False, server_default=false()),
    Column("hard_bounces_email", Integer, nullable=False, server_default=text("0")),
    Column("soft_bounces_email", Integer, nullable=False, server_default=text("0")),
    Column("last_store", Text),
    Column("profile", Text),
    Column("coupon_id", Text),
    Column("coupon_expires", Text),
    Column("coupon_redeemed", Boolean, nullable=False, server_default=false()),
    Column("custom", Text, nullable=False, server_default=text("'{}'")),
    Column("hard_bounces_sms", Integer, nullable=False, server_default=text("0")),
    Column("soft_bounces_sms", Integer, nullable=False, server_default=text("0")),
    # In this order, so that it can't be taken for a way to find customers by their numbers.
    UniqueConstraint("customer_id", "audience_id"),
    CheckConstraint("hard_bounces_email >= 0", name="hard_bounces"),
    CheckConstraint("soft_bounces_email >= 0", name="soft_bounces"),
    sqlite_with_rowid=False,
    comment="People, numbered within their audience. mobile_e164 is null where no number can be"
    " read from mobile; custom is a JSON object of tag:NAME and field:NAME.",
)

coupon_series = Table(
    "coupon_series",
    metadata,
    Column("organization_id", ForeignKey("organizations.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("active", Boolean, nullable=False, server_default=true()),
    comment="Coupons that are given out together.",
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("organization_id", ForeignKey("organizations.id"), nullable=False),
    Column("audience_id", ForeignKey("audiences.id"), nullable=False),
    Column("gateway_id", ForeignKey("gateways.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("channel", String(8), nullable=False),
    Column("requires", Text, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("1")),
    Column("kind", Text, nullable=False, server_default=text("'promotion'")),
    Column("sender", Text),
    Column("coupon_series", Text),
    Column("services_kind", Text, nullable=False, server_default=text("'sql'")),
    Column("services_settings", Text, nullable=False, server_default=text("'{}'")),
    Column("tracks_engagement", Boolean, nullable=False, server_default=false()),
    Column("engagement_as_of", BigInteger),
    UniqueConstraint("run_id", "name"),
    Index(None, "name"),
    CheckConstraint(f"channel IN ({_sql_string_list(Channel)})", name="channel"),
    CheckConstraint("attempts >= 1", name="attempts"),
    comment="One message to one audience over one channel. requires is a JSON list. Kind and"
    " services_kind are names of entry points in sendtrace.handlers and sendtrace.services;"
    " coupon_series may name one that the organization does not have. engagement_as_of: when its"
    " engagement was last rolled up.",
)

batches = Table(
    "batches",
    metadata,
    Column("campaign_id", ForeignKey("campaigns.id"), primary_key=True),
    Column("batch", Integer, primary_key=True, autoincrement=False),
    Column("first", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("touched_at", BigInteger, nullable=False),
    Column("receipts_due_at", BigInteger),
    Column("engagement_due_at", BigInteger),
    CheckConstraint("first >= 0", name="first"),
    CheckConstraint("size >= 1", name="size"),
    sqlite_with_rowid=False,
    comment="Message numbers first … first + size - 1. touched_at: when a step last changed it."
    " receipts_due_at, engagement_due_at: from when on the gateway may have more to tell; null is"
    " never.",
)

steps = Table(
    "steps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("step", String(16), nullable=False),
    Column("task_id", Text),
    Column("worker", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger, nullable=False),
    Column("moved", Integer, nullable=False),
    ForeignKeyConstraint(["campaign_id", "batch"], ["batches.campaign_id", "batches.batch"]),
    CheckConstraint(f"step IN ({_sql_string_list(Step)})", name="step"),
    Index(None, "campaign_id", "batch"),
    comment="One step on one batch that was recorded: who did it, when, and how many it moved.",
)

recoveries = Table(
    "recoveries",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("batch", Integer, primary_key=True, autoincrement=False),
    Column("step", String(16), nullable=False),
    Column("times", Integer, nullable=False),
    Column("touched_at", BigInteger, nullable=False),
    Column("sent_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["campaign_id", "batch"], ["batches.campaign_id", "batches.batch"]),
    CheckConstraint(f"step IN ({_sql_string_list(Step)})", name="step"),
    sqlite_with_rowid=False,
    comment="Batches that stood still and were sent on again, as many times as nothing came of it:"
    " touched_at is the batch's when it was sent last, sent_at is real time.",
)

parts = Table(
    "parts",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("batch", Integer, primary_key=True, autoincrement=False),
    Column("step", String(16), primary_key=True),
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("error", Text),
    Column("ended_at", BigInteger),
    ForeignKeyConstraint(["campaign_id", "batch"], ["batches.campaign_id", "batches.batch"]),
    CheckConstraint(f"step IN ({_sql_string_list(Step)})", name="step"),
    CheckConstraint("size >= 1", name="size"),
    CheckConstraint("ended_at IS NULL OR size = 1", name="ended_at"),
    sqlite_with_rowid=False,
    comment="Message numbers first … first + size - 1 of a batch on which a step is done apart, as"
    " it came to no end on all: so many tries were begun. What ended was a message that broke every"
    " try, with the last error that is known.",
)

messages = Table(
    "messages",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("status", SmallInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False, server_default=text(str(NO_REASON))),
    Column("attempt", SmallInteger, nullable=False, server_default=text("0")),
    *_state_checks(),
    sqlite_with_rowid=False,
    # Each message is updated a few times while it is new. Room on its page lets PostgreSQL do
    # that without touching the index, which halves the cost of a move.
    postgresql_with={"fillfactor": 40},
    comment="One campaign to one customer (of the same number in the campaign's audience).",
)

transitions = Table(
    "transitions",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("status", SmallInteger, primary_key=True, autoincrement=False),
    Column("attempt", SmallInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("previous", SmallInteger),
    Column("reason", SmallInteger, nullable=False, server_default=text(str(NO_REASON))),
    Column("at", BigInteger, nullable=False),
    Column("step_id", Integer, nullable=False),
    *_state_checks(),
    CheckConstraint(_legal_transition_sql(), name="legal"),
    sqlite_with_rowid=False,
    comment="Every change of a status, once: a message enters a status once an attempt.",
)

engagements = Table(
    "engagements",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    CheckConstraint(f"kind IN ({_sql_code_list(Engagement)})", name="kind"),
    sqlite_with_rowid=False,
    comment="What recipients did with delivered messages, each event once.",
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
    CheckConstraint(f"kind IN ({_sql_code_list(Engagement)})", name="kind"),
    CheckConstraint("recipients >= 0", name="recipients"),
    Index(
        "engagement_tallies_new_idx",
        "campaign_id",
        sqlite_where=text("recipients <> rolled"),
        postgresql_where=text("recipients <> rolled"),
    ),
    sqlite_with_rowid=False,
    comment="How many recipients of a batch did something for the first time in a quarter of an"
    " hour, counted from 1970-01-01 00:00 UTC; rolled: how many of them the days count already.",
)

engagement_days = Table(
    "engagement_days",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("day", String(10), primary_key=True),
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("recipients", Integer, nullable=False),
    CheckConstraint(f"kind IN ({_sql_code_list(Engagement)})", name="kind"),
    CheckConstraint("recipients >= 0", name="recipients"),
    sqlite_with_rowid=False,
    comment="The rollup: how many recipients did something for the first time on a local day, as"
    " in 2026-11-24.",
)

transition_details = Table(
    "transition_details",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("attempt", SmallInteger, primary_key=True, autoincrement=False),
    Column("status", SmallInteger, primary_key=True, autoincrement=False),
    Column("detail", Text, nullable=False),
    sqlite_with_rowid=False,
    comment="What a gateway said beside the outcome of an attempt, such as an enhanced status code"
    " (RFC 3463).",
)

refused_receipts = Table(
    "refused_receipts",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("attempt", BigInteger, primary_key=True, autoincrement=False),
    Column("status", BigInteger, primary_key=True, autoincrement=False),
    Column("copy", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("verdict", String(9), nullable=False),
    CheckConstraint(f"verdict IN ({_sql_string_list(ReceiptVerdict)})", name="verdict"),
    sqlite_with_rowid=False,
    comment="Receipts that did not count, each once, as the gateway gave them; copy tells those"
    " apart that say the same.",
)

reports = Table(
    "reports",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("kind", String(17), nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    ForeignKeyConstraint(["campaign_id", "batch"], ["batches.campaign_id", "batches.batch"]),
    CheckConstraint("kind IN ('receipts_due_at', 'engagement_due_at')", name="kind"),
    Index(None, "campaign_id", "batch"),
    comment="What a gateway has reported of a batch on its own account, and no step has applied"
    " yet: a JSON list of receipts, or of engagement. Kind is the column of batches that says it is"
    " due. received_at is real time.",
)

tallies = Table(
    "tallies",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("batch", Integer, primary_key=True, autoincrement=False),
    Column("status", SmallInteger, primary_key=True, autoincrement=False),
    Column("reason", SmallInteger, primary_key=True, autoincrement=False),
    Column("attempt", SmallInteger, primary_key=True, autoincrement=False),
    Column("messages", Integer, nullable=False),
    *_state_checks(),
    CheckConstraint("messages >= 0", name="messages"),
    sqlite_with_rowid=False,
    comment="How many messages of a batch are in a state: what the report adds up.",
)


# A CHECK sees one row, not the change from one to the next, so the refusal of illegal changes
# of a message needs a trigger. Its condition is an expression, which costs next to nothing.
ILLEGAL_CHANGE = f"NOT ({_legal_change_sql('OLD.status', 'NEW.status')})"

POSTGRESQL_EXTRAS = (
    """\
CREATE FUNCTION messages_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'illegal change of message '
        || OLD.campaign_id || '.' || OLD.number || ': ' || OLD.status || ' to ' || NEW.status;
END $$
""",
    f"""\
CREATE TRIGGER messages_legal BEFORE UPDATE OF status ON messages FOR EACH ROW
WHEN ({ILLEGAL_CHANGE}) EXECUTE FUNCTION messages_refuse_change()
""",
)

SQLITE_EXTRAS: tuple[str, ...] = (
    f"""\
CREATE TRIGGER messages_legal BEFORE UPDATE OF status ON messages FOR EACH ROW
WHEN {ILLEGAL_CHANGE}
BEGIN SELECT RAISE(ABORT, 'illegal change of status'); END
""",
)


def _names_by_code_sql(column: str, members: Iterable[Status | Reason]) -> str:
    cases = " ".join(f"WHEN {member:d} THEN '{member.slug}'" for member in members)
    return f"CASE {column} {cases} END"


VIEWS = (
    f"""\
CREATE VIEW messages_by_name AS
SELECT campaigns.name AS campaign, campaigns.run_id AS run, messages.number, attempt,
    {_names_by_code_sql("status", Status)} AS status, {_names_by_code_sql("reason", Reason)} AS reason
FROM messages JOIN campaigns ON campaigns.id = messages.campaign_id
""",
    f"""\
CREATE VIEW transitions_by_name AS
SELECT campaigns.name AS campaign, campaigns.run_id AS run, number, attempt,
    {_names_by_code_sql("previous", Status)} AS previous, {_names_by_code_sql("status", Status)} AS status,
    {_names_by_code_sql("reason", Reason)} AS reason, at AS microseconds_utc, step_id
FROM transitions JOIN campaigns ON campaigns.id = transitions.campaign_id
""",
)

# SQLite takes a campaign for a handful of rows unless it is told otherwise, and then compares a
# list of numbers with all of them. What ANALYZE would find in a large database is told at once.
SQLITE_STATISTICS = (
    ("messages", "1000000 100000 1"),
    ("transitions", "4000000 400000 100000 100000 1"),
    ("customers", "1000000 100000 1"),
    ("batches", "1000 100 1"),
    ("tallies", "10000 1000 10 2 2 1"),
)
SQLITE_EXTRAS += (
    "ANALYZE",
    "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES "
    + ", ".join(f"('{table}', '{table}', '{rows}')" for table, rows in SQLITE_STATISTICS),
)


def _execute_after_create(statements: Iterable[str], dialect: str | None = None) -> None:
    for statement in statements:
        ddl = DDL(statement)  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
        event.listen(metadata, "after_create", ddl.execute_if(dialect=dialect))


_execute_after_create(POSTGRESQL_EXTRAS, "postgresql")
_execute_after_create(SQLITE_EXTRAS, "sqlite")
_execute_after_create(VIEWS)
