"""Change a schema: `sendtrace migrate` does, and the first use of an empty database.

Everybody else compares the schema with that of this version, and writes nothing.
"""

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.errors import DatabaseIsForeign, DatabaseTooNew, DatabaseTooOld, NothingRecorded
from tracker.store.applied_migrations import read_incompatible, record_applied
from tracker.store.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

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
class Migration:
    """A change of a layer's tables.

    Attributes:
        is_compatible: whether workers of the previous schema go on: it only adds tables, and
            columns that need no value. It is the variable `compatible` of the migration's file.
    """

    layer: str
    revision: str
    is_compatible: bool


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
    layer="tracker", versions=SCRIPT_FOLDER / "versions", head="0013_cancellation"
)


class SchemaState(Enum):
    """How the tables of a layer compare with those of this version."""

    ABSENT = auto()
    OLDER = auto()
    CURRENT = auto()
    NEWER = auto()


def check_schema(database: Database, *layers: Migrations, accepts_compatible: bool = False) -> None:
    """Check that the tables of layers are those of this version. Writes nothing.

    Args:
        accepts_compatible: whether the schema may be newer, if only by compatible migrations.

    Raises:
        NothingRecorded: the database is empty.
        DatabaseTooOld: an earlier version made the tables, and `sendtrace migrate` was not run.
        DatabaseTooNew: a newer version of sendtrace migrated the database.
        DatabaseIsForeign: the tables are those of another application.
    """
    with database.read() as connection:
        for migrations in layers:
            state = _check_layer(database, connection, migrations, accepts_compatible)
            if state is SchemaState.ABSENT:
                raise NothingRecorded(
                    f"nothing is recorded in {database.redacted_url}; run sendtrace simulate first"
                )


def prepare_schema(
    database: Database, *layers: Migrations, accepts_compatible: bool = False
) -> None:
    """Create the tables of layers that have none; check others as `check_schema` does.

    Concurrent calls create each table once.

    Args:
        accepts_compatible: whether the schema may be newer, if only by compatible migrations.
    """
    with database.read() as connection:
        absent = [
            migrations
            for migrations in layers
            if _check_layer(database, connection, migrations, accepts_compatible)
            is SchemaState.ABSENT
        ]
    for migrations in absent:
        _upgrade(database, migrations)


def migrate(database: Database, *layers: Migrations) -> list[Migration]:
    """Bring the tables of layers up to date, and return the migrations that were applied.

    Concurrent calls apply each migration once.

    Raises:
        DatabaseTooOld: an unreleased version of sendtrace made the database.
        DatabaseTooNew: a newer version of sendtrace migrated the database.
        DatabaseIsForeign: the tables are those of another application.
    """
    pending = find_pending(database, *layers)
    for migrations in layers:
        if any(migration.layer == migrations.layer for migration in pending):
            _upgrade(database, migrations)
    return pending


def find_pending(database: Database, *layers: Migrations) -> list[Migration]:
    """Return the migrations that `migrate` would apply, in their order. Writes nothing."""
    pending = []
    with database.read() as connection:
        for migrations in layers:
            state = _read_state(database, connection, migrations)
            if state is SchemaState.NEWER:
                raise _too_new(database, connection, migrations)
            if state is not SchemaState.CURRENT:
                revision = _read_revision(connection, migrations.version_table)
                pending += _list_migrations(migrations, after=revision)
    return pending


def _check_layer(
    database: Database,
    connection: Connection,
    migrations: Migrations,
    accepts_compatible: bool,
) -> SchemaState:
    """Return the state of a layer, or raise if the tables are neither absent nor fit."""
    state = _read_state(database, connection, migrations)
    if state is SchemaState.OLDER:
        raise DatabaseTooOld(
            f"the database {database.redacted_url} has an older schema"
            f" ({_describe_revision(connection, migrations)}); run sendtrace migrate"
        )
    if state is SchemaState.NEWER:
        own = {(migrations.layer, revision) for revision in migrations.list_revisions()}
        incompatible = {key for key in read_incompatible(connection) if key[0] == migrations.layer}
        if incompatible - own or not accepts_compatible:
            raise _too_new(database, connection, migrations)
    return state


def _read_state(database: Database, connection: Connection, migrations: Migrations) -> SchemaState:
    revision = _read_revision(connection, migrations.version_table)
    if revision is None:
        tables = sa.inspect(connection).get_table_names()
        if tables and TRACKER_MIGRATIONS.version_table not in tables:
            raise DatabaseIsForeign(
                f"the database {database.redacted_url} has tables of another application, such as"
                f" {tables[0]}; expected an empty database or one of sendtrace"
            )
        return SchemaState.ABSENT
    if revision in RETIRED_REVISIONS:
        raise DatabaseTooOld(
            f"the database {database.redacted_url} was made by an unreleased version of sendtrace"
            f" (its {migrations.layer} tables are at {revision}), and can't be upgraded; delete it"
            " or set SENDTRACE_DATABASE_URL to another database"
        )
    if revision == migrations.head:
        return SchemaState.CURRENT
    is_known = revision in migrations.list_revisions()
    return SchemaState.OLDER if is_known else SchemaState.NEWER


def _read_revision(connection: Connection, version_table: str) -> str | None:
    if not sa.inspect(connection).has_table(version_table):
        return None
    column = sa.column("version_num", sa.String)
    revision: str | None = connection.scalar(sa.select(column).select_from(sa.table(version_table)))
    return revision


def _describe_revision(connection: Connection, migrations: Migrations) -> str:
    revision = _read_revision(connection, migrations.version_table)
    return f"its {migrations.layer} tables are at {revision}, this version knows {migrations.head}"


def _too_new(database: Database, connection: Connection, migrations: Migrations) -> DatabaseTooNew:
    return DatabaseTooNew(
        f"the database {database.redacted_url} was made by a newer version of sendtrace"
        f" ({_describe_revision(connection, migrations)});"
        " update sendtrace or use another database"
    )


def _upgrade(database: Database, migrations: Migrations) -> None:
    # Imported here because a current database, the usual case, doesn't need it.
    from alembic import command

    config = _make_config(migrations)
    with database.write() as connection:
        database.lock_migrations(connection)
        config.attributes.update(connection=connection, version_table=migrations.version_table)
        command.upgrade(config, "head")
        marks = {
            migration.revision: migration.is_compatible
            for migration in _list_migrations(migrations, after=None)
        }
        record_applied(connection, migrations.layer, marks)
    # SQLite reads the statistics of its query planner when a connection is opened.
    database.engine.dispose()


def _list_migrations(migrations: Migrations, after: str | None) -> list[Migration]:
    """Return the migrations of a layer after a revision, in their order."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_make_config(migrations))
    return [
        Migration(
            layer=migrations.layer,
            revision=script.revision,
            is_compatible=script.module.compatible,
        )
        for script in reversed([*scripts.iterate_revisions("head", after or "base")])
    ]


def _make_config(migrations: Migrations) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPT_FOLDER))
    config.set_main_option("version_locations", str(migrations.versions))
    config.set_main_option("path_separator", "newline")
    return config
