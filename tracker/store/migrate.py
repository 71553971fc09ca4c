"""Migrations: bring the tables of one layer up to date."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from tracker.errors import DatabaseTooNew
from tracker.store.database import Database

MIGRATION_LOCK = 0x73656E64
"""Key of PostgreSQL's advisory lock for migrations: "send"."""


MIGRATIONS = Path(__file__).parent / "migrations"
"""Where alembic finds ``env.py``, and below ``versions`` the migrations of this floor's tables."""


def migrate(
    database: Database, layer: str = "tracker", versions: Path = MIGRATIONS / "versions"
) -> None:
    """Bring the tables of one ``layer`` of the house up to date, once, whoever comes first.

    ``versions`` is the folder of that floor's alembic migrations. Raises :exc:`DatabaseTooNew`
    for a database that a newer version of sendtrace has migrated.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "newline")
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    version_table = f"{layer}_version"
    with database.read() as connection:
        if _read_revision(connection, version_table) == head:
            return
    with database.write() as connection:
        if database.is_postgresql:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        current = _read_revision(connection, version_table)
        if current is not None and current not in {
            each.revision for each in scripts.walk_revisions()
        }:
            raise DatabaseTooNew(
                f"the database {database.redacted_url} was made by a newer version of sendtrace"
                f" (its {layer} tables are at {current}, this version knows {head});"
                " update sendtrace or use another database"
            )
        config.attributes.update(connection=connection, version_table=version_table)
        command.upgrade(config, "head")
    database.engine.dispose()  # SQLite reads its planner's statistics when a connection is made


def _read_revision(connection: Connection, version_table: str) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": version_table})
    return context.get_current_revision()
