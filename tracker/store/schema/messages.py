"""Tables of messages, transitions, receipts and tallies, with the lifecycle's constraints."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

from tracker.bounces import BounceCause
from tracker.status import IN_PROGRESS_STATUSES, LEGAL_TRANSITIONS, Reason, ReceiptVerdict, Status
from tracker.store.schema.metadata import metadata, sql_code_list, sql_string_list

NO_REASON = 0
"""Code in the reason column of each row whose status isn't Not Sent."""


def legal_change_sql(previous: str, status: str) -> str:
    """Return SQL that is true where `status` may follow `previous`, which must not be null."""
    cases = " ".join(
        f"WHEN {source} THEN {status} IN ({sql_code_list(targets)})"
        for source, targets in LEGAL_TRANSITIONS.items()
        if source is not None and targets
    )
    return f"CASE {previous} {cases} ELSE 1 = 0 END"


def _legal_transition_sql() -> str:
    first_statuses = f"status IN ({sql_code_list(LEGAL_TRANSITIONS[None])})"
    changes = legal_change_sql("previous", "status")
    return f"CASE WHEN previous IS NULL THEN {first_statuses} ELSE {changes} END"


_VALID_STATUS = f"status IN ({sql_code_list(Status)})"
_VALID_REASON = (
    f"(status = {Status.NOT_SENT:d} AND reason IN ({sql_code_list(Reason)}))"
    f" OR (status <> {Status.NOT_SENT:d} AND reason = {NO_REASON})"
)
_BEFORE_GATEWAY = sql_code_list({*IN_PROGRESS_STATUSES, Status.NOT_SENT})
_VALID_ATTEMPT = (
    f"(status IN ({_BEFORE_GATEWAY}) AND attempt = 0)"
    f" OR (status NOT IN ({_BEFORE_GATEWAY}) AND attempt >= 1)"
)


def _make_state_checks() -> list[CheckConstraint]:
    return [
        CheckConstraint(_VALID_STATUS, name="status"),
        CheckConstraint(_VALID_REASON, name="reason"),
        CheckConstraint(_VALID_ATTEMPT, name="attempt"),
    ]


messages = Table(
    "messages",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("status", SmallInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False, server_default=text(str(NO_REASON))),
    Column("attempt", SmallInteger, nullable=False, server_default=text("0")),
    *_make_state_checks(),
    sqlite_with_rowid=False,
    # Each message is updated a few times soon after its insertion. Free space on its page lets
    # PostgreSQL do that without updating the index, which halves the cost of a move.
    postgresql_with={"fillfactor": 40},
    comment="One campaign to one customer. number: the customer's number in its audience.",
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
    *_make_state_checks(),
    CheckConstraint(_legal_transition_sql(), name="legal"),
    sqlite_with_rowid=False,
    comment="Every change of a message's status. A message enters a status once per attempt.",
)

transition_details = Table(
    "transition_details",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("attempt", SmallInteger, primary_key=True, autoincrement=False),
    Column("status", SmallInteger, primary_key=True, autoincrement=False),
    Column("check_name", Text),
    Column("detail", Text),
    sqlite_with_rowid=False,
    comment="What a transition's status and reason don't say. check_name: the check that blocked"
    " the message, unless it is named like its reason. detail: the error, the check's text, or what"
    " the gateway reported, such as an enhanced status code (RFC 3463).",
)

message_costs = Table(
    "message_costs",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("credit", Integer, nullable=False),
    CheckConstraint("credit >= 2", name="credit"),
    sqlite_with_rowid=False,
    comment="Messages that cost more credit than one: SMS of several segments. Others cost one.",
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
    CheckConstraint(f"verdict IN ({sql_string_list(ReceiptVerdict)})", name="verdict"),
    sqlite_with_rowid=False,
    comment="Receipts that were not applied, each once, as the gateway gave them. copy: tells"
    " otherwise identical receipts apart.",
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
    *_make_state_checks(),
    CheckConstraint("messages >= 0", name="messages"),
    sqlite_with_rowid=False,
    comment="Messages of a batch by status, reason and attempt. The report sums these rows.",
)

BOUNCED_STATUSES = (Status.HARD_BOUNCED, Status.SOFT_BOUNCED)

bounce_tallies = Table(
    "bounce_tallies",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("batch", Integer, primary_key=True, autoincrement=False),
    Column("status", SmallInteger, primary_key=True, autoincrement=False),
    Column("cause", SmallInteger, primary_key=True, autoincrement=False),
    Column("messages", Integer, nullable=False),
    CheckConstraint(f"status IN ({sql_code_list(BOUNCED_STATUSES)})", name="status"),
    CheckConstraint(f"cause IN ({sql_code_list(BounceCause)})", name="cause"),
    CheckConstraint("messages >= 0", name="messages"),
    sqlite_with_rowid=False,
    comment="Bounced messages of a batch by status and by the cause that the gateway gave.",
)
