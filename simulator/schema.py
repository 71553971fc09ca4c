"""The simulator's tables, in the same database as the tracker's.

They hold the simulated gateway's ledger, the driver's acknowledgements, what a run needs to be
judged and resumed, and the results of runs.
"""

from contextlib import ExitStack, closing
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

from tracker.settings import Settings
from tracker.status import LEGAL_TRANSITIONS, Status
from tracker.store.database import Database, check_reachable, connect
from tracker.store.migrate import (
    TRACKER_MIGRATIONS,
    Migrations,
    check_schema,
    prepare_schema,
)
from tracker.store.schema.metadata import NAMING_CONVENTION, sql_code_list
from tracker.store.schema.tables import TRACKER_TABLES

SIMULATOR_MIGRATIONS = Migrations(
    layer="simulator",
    versions=Path(__file__).parent / "migrations" / "versions",
    head="0008_initial",
)

ALL_MIGRATIONS = (TRACKER_MIGRATIONS, SIMULATOR_MIGRATIONS)

GATEWAY_OUTCOMES = LEGAL_TRANSITIONS[Status.IN_GATEWAY]

metadata = MetaData(naming_convention=NAMING_CONVENTION)

acceptances = Table(
    "gateway_ledger",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("attempt", SmallInteger, primary_key=True, autoincrement=False),
    Column("accepted_at", BigInteger, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("due_at", BigInteger),
    Column("repeats", Integer, nullable=False, server_default=sa.text("0")),
    CheckConstraint(f"outcome IN ({sql_code_list(GATEWAY_OUTCOMES)})", name="outcome"),
    CheckConstraint("due_at >= accepted_at", name="due_at"),
    sqlite_with_rowid=False,
    comment="Messages that the simulated gateway accepted, by attempt. repeats: later submissions"
    " of the same attempt. due_at: when the receipt of the outcome is available; null if it was"
    " lost.",
)

notices = Table(
    "gateway_notices",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("attempt", SmallInteger, primary_key=True, autoincrement=False),
    Column("status", SmallInteger, primary_key=True, autoincrement=False),
    Column("copy", SmallInteger, primary_key=True, autoincrement=False),
    Column("due_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    comment="Receipts of the simulated gateway besides the outcomes: duplicates, receipts of an"
    " earlier attempt, late bounces. due_at: when the receipt is available.",
)

rejections = Table(
    "gateway_rejections",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("attempt", SmallInteger, primary_key=True, autoincrement=False),
    Column("times", Integer, nullable=False),
    sqlite_with_rowid=False,
    comment="Temporary rejections of a message by the simulated gateway before it accepted the"
    " message.",
)

refused_calls = Table(
    "gateway_refused_calls",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index(None, "campaign_id"),
    comment="Calls to the simulated gateway while it was unavailable.",
)

forced_outcomes = Table(
    "gateway_magic",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("magic", SmallInteger, nullable=False),
    sqlite_with_rowid=False,
    comment="Recipients whose address forces an outcome. magic: the code of that outcome.",
)

results = Table(
    "run_results",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("series", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("summary", Text, nullable=False),
    Column("timeseries", Text, nullable=False),
    comment="Results of runs. summary, timeseries: the texts of summary.json and timeseries.csv."
    " version: of their format. series: the id of the first of the runs that repeat each other.",
)

run_setups = Table(
    "run_setups",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("scenario_file", Text, nullable=False),
    Column("folder", Text, nullable=False),
    Column("rejects", Text, nullable=False),
    comment="What a started run has besides its definition. scenario_file: path of the definition."
    " folder: where its files are. rejects: a JSON list of the imported audience files"
    " with counts of their rows.",
)

run_drivers = Table(
    "run_drivers",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("started_at", BigInteger, nullable=False),
    Column("paused", BigInteger, nullable=False),
    Column("options", Text, nullable=False),
    Column("conditions", Text, nullable=False),
    Column("observations", Text),
    comment="The drivers of a run: the first, number 0, and one for each time that the run was"
    " resumed. started_at: by the run's clock. paused: microseconds of the run's clock without a"
    " driver, all pauses until then together. options, conditions: JSON objects. observations: what"
    " it saw, as JSON, recorded at its end; null if it never came to its end.",
)

audience_census = Table(
    "audience_census",
    metadata,
    Column("audience_id", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    comment="What the oracle knows of the customers of an audience file, as they were imported: an"
    " archive of numpy arrays.",
)

expected_outcomes = Table(
    "expected_outcomes",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    comment="How some messages of a campaign must end, according to its scenario: an archive of"
    " numpy arrays.",
)

driver_acknowledgements = Table(
    "driver_acknowledged",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    CheckConstraint("size >= 1", name="size"),
    sqlite_with_rowid=False,
    comment="Message numbers first to first + size - 1 that the driver knows to be queued, recorded"
    " after their batch. at: real time.",
)


def check_all_tables(database: Database) -> None:
    """Check that the tables of all layers are those of this version; see `check_schema`."""
    check_schema(database, *ALL_MIGRATIONS)


def analyze_all_tables(database: Database) -> None:
    """Update the planner's statistics of the tables of all layers."""
    database.analyze((*TRACKER_TABLES, *metadata.sorted_tables))


def open_database(settings: Settings) -> Database:
    """Return the configured database, which was reached and has the tables of this version.

    In an empty database the tables are created.

    Raises:
        DatabaseUnreachable: the database doesn't answer.
        UsageError: its tables are others; see `prepare_schema`.
    """
    with ExitStack() as stack:
        database = stack.enter_context(closing(connect(settings.resolved_database_url)))
        check_reachable(database)
        with database.readable_errors():
            prepare_schema(database, *ALL_MIGRATIONS)
        stack.pop_all()  # the caller closes it
    return database
