"""Bring the tables of one layer up to date."""

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.errors import DatabaseTooNew, DatabaseTooOld
from tracker.store.applied_migrations import record_applied
from tracker.store.database import Database

SCRIPT_FOLDER = Path(__file__).parent / "migrations"
"""Folder of alembic's `env.py`, which serves the migrations of all layers."""

RETIRED_REVISIONS = frozenset(
    {
        "0001",
        "0002",
        "0003",
        "0004",
        "0005",
        "0001_initial",
        "0002_initial",
        "0003_initial",
        "0004_initial",
        "0005_initial",
        "0006_initial",
        "0007_initial",
    }
)
"""Revisions of databases from before the first release, which the initial one replaced."""


@dataclass(frozen=True, kw_only=True)
class Migrations:
    """The migrations of one layer's tables.

    Attributes:
        layer: name of the layer. Its revision is stored in the table `LAYER_version`.
        versions: folder of the alembic revisions; each file is named after its revision.
        head: the newest revision. It is a constant so that a current database is recognized
            without importing alembic, which takes a third of a second.
    """

    layer: str
    versions: Path
    head: str

    @property
    def version_table(self) -> str:
        """The name of the table that holds the revision."""
        return f"{self.layer}_version"

    def list_revisions(self) -> set[str]:
        """Return all revisions of this version of sendtrace."""
        return {file.stem for file in self.versions.glob("*.py")}


TRACKER_MIGRATIONS = Migrations(
    layer="tracker", versions=SCRIPT_FOLDER / "versions", head="0011_pauses"
)


def migrate(database: Database, migrations: Migrations = TRACKER_MIGRATIONS) -> None:
    """Bring the tables of one layer up to date. Concurrent calls apply each migration once.

    Raises:
        DatabaseTooNew: a newer version of sendtrace migrated the database.
        DatabaseTooOld: an unreleased version of sendtrace made the database.
    """
    with database.read() as connection:
        if _is_current(database, connection, migrations):
            return
    with database.write() as connection:
        database.lock_migrations(connection)
        if not _is_current(database, connection, migrations):
            _upgrade(connection, migrations)
    # SQLite reads the statistics of its query planner when a connection is opened.
    database.engine.dispose()


def _is_current(database: Database, connection: Connection, migrations: Migrations) -> bool:
    revision = _read_revision(connection, migrations.version_table)
    if revision is None or revision == migrations.head:
        return revision is not None
    tables = f"its {migrations.layer} tables are at {revision}"
    if revision in RETIRED_REVISIONS:
        raise DatabaseTooOld(
            f"the database {database.redacted_url} was made by an unreleased version of sendtrace"
            f" ({tables}), and can't be upgraded; delete it or set SENDTRACE_DATABASE_URL to"
            " another database"
        )
    if revision not in migrations.list_revisions():
        raise DatabaseTooNew(
            f"the database {database.redacted_url} was made by a newer version of sendtrace"
            f" ({tables}, this version knows {migrations.head});"
            " update sendtrace or use another database"
        )
    return False


def _read_revision(connection: Connection, version_table: str) -> str | None:
    if not sa.inspect(connection).has_table(version_table):
        return None
    column = sa.column("version_num", sa.String)
    revision: str | None = connection.scalar(sa.select(column).select_from(sa.table(version_table)))
    return revision


def _upgrade(connection: Connection, migrations: Migrations) -> None:
    # Imported here because a current database, the usual case, doesn't need it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(SCRIPT_FOLDER))
    config.set_main_option("version_locations", str(migrations.versions))
    config.set_main_option("path_separator", "newline")
    config.attributes.update(connection=connection, version_table=migrations.version_table)
    command.upgrade(config, "head")
    marks = {
        script.revision: script.module.compatible
        for script in ScriptDirectory.from_config(config).walk_revisions()
    }
    record_applied(connection, migrations.layer, marks)
