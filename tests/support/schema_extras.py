"""The trigger, the views and SQLite's statistics as the vocabulary requires them.

The migrations create them with SQL that is written out. A test compares it with these definitions,
so it fails when the vocabulary changes without a migration.
"""

from collections.abc import Iterable

from sqlalchemy import DDL, event

from tracker.status import Reason, Status
from tracker.store.schema.messages import legal_change_sql
from tracker.store.schema.metadata import metadata

# A CHECK sees one row, not the change from one version to the next, so a trigger has to reject
# illegal changes. Its condition is an expression, which costs next to nothing.
_ILLEGAL_CHANGE = f"NOT ({legal_change_sql('OLD.status', 'NEW.status')})"

_POSTGRESQL_TRIGGER = (
    """\
CREATE FUNCTION messages_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'illegal change of message '
        || OLD.campaign_id || '.' || OLD.number || ': ' || OLD.status || ' to ' || NEW.status;
END $$
""",
    f"""\
CREATE TRIGGER messages_legal BEFORE UPDATE OF status ON messages FOR EACH ROW
WHEN ({_ILLEGAL_CHANGE}) EXECUTE FUNCTION messages_refuse_change()
""",
)

_SQLITE_TRIGGER = f"""\
CREATE TRIGGER messages_legal BEFORE UPDATE OF status ON messages FOR EACH ROW
WHEN {_ILLEGAL_CHANGE}
BEGIN SELECT RAISE(ABORT, 'illegal change of status'); END
"""


def _names_by_code_sql(column: str, members: Iterable[Status | Reason]) -> str:
    cases = " ".join(f"WHEN {member:d} THEN '{member.slug}'" for member in members)
    return f"CASE {column} {cases} END"


_STATUS, _PREVIOUS = (_names_by_code_sql(column, Status) for column in ("status", "previous"))
_REASON = _names_by_code_sql("reason", Reason)

_VIEWS = (
    f"""\
CREATE VIEW messages_by_name AS
SELECT campaigns.name AS campaign, campaigns.run_id AS run, messages.number, attempt,
    {_STATUS} AS status, {_REASON} AS reason
FROM messages JOIN campaigns ON campaigns.id = messages.campaign_id
""",
    f"""\
CREATE VIEW transitions_by_name AS
SELECT campaigns.name AS campaign, campaigns.run_id AS run, number, attempt,
    {_PREVIOUS} AS previous, {_STATUS} AS status,
    {_REASON} AS reason, at AS microseconds_utc, step_id
FROM transitions JOIN campaigns ON campaigns.id = transitions.campaign_id
""",
)

# Without statistics SQLite assumes that a campaign has a handful of rows, and scans all of them
# for a list of numbers. These are the rows that ANALYZE would write in a large database.
_SQLITE_ROWS_PER_KEY = (
    ("messages", "1000000 100000 1"),
    ("transitions", "4000000 400000 100000 100000 1"),
    ("customers", "1000000 100000 1"),
    ("batches", "1000 100 1"),
    ("tallies", "10000 1000 10 2 2 1"),
    ("gateway_ledger", "1000000 100000 2 1"),
)
_SQLITE_STATISTICS = (
    "ANALYZE",
    "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES "
    + ", ".join(f"('{table}', '{table}', '{rows}')" for table, rows in _SQLITE_ROWS_PER_KEY),
)


def _execute_after_create(statements: Iterable[str], dialect: str | None = None) -> None:
    for statement in statements:
        ddl = DDL(statement)  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
        event.listen(metadata, "after_create", ddl.execute_if(dialect=dialect))


_execute_after_create(_POSTGRESQL_TRIGGER, "postgresql")
_execute_after_create((_SQLITE_TRIGGER, *_SQLITE_STATISTICS), "sqlite")
_execute_after_create(_VIEWS)
