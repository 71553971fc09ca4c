"""A migration that is marked compatible fits the statements of workers one schema older."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Inspector

from simulator.schema import SIMULATOR_MIGRATIONS
from tests.support.migrations import add_migration, list_scripts, upgrade_to
from tracker.store.database import Database
from tracker.store.migrate import TRACKER_MIGRATIONS, Migrations, migrate
from tracker.store.schema.applied_migrations import applied_migrations

LAYERS = [
    pytest.param(TRACKER_MIGRATIONS, id="tracker"),
    pytest.param(SIMULATOR_MIGRATIONS, id="simulator"),
]

PREVIOUS_REVISION = "0013_cancellation"
"""The schema of `previous_statements.sql`. No earlier release exists whose workers could run here.

After an incompatible migration, both are replaced by those of its own schema.
"""

PREVIOUS_STATEMENTS = Path(__file__).with_name("previous_statements.sql")

Schema = Mapping[str, Mapping[str, set[str]]]
"""What each table demands of its rows: columns, checks and keys."""


def read_schema(database: Database) -> Schema:
    with database.read() as connection:
        inspector = sa.inspect(connection)
        return {table: read_demands(inspector, table) for table in inspector.get_table_names()}


def read_demands(inspector: Inspector, table: str) -> Mapping[str, set[str]]:
    columns = {
        f"{column['name']} {column['type']}"
        f" {'optional' if column['nullable'] or column['default'] else 'required'}"
        for column in inspector.get_columns(table)
    }
    checks = {str(check) for check in inspector.get_check_constraints(table)}
    keys = {str(key) for key in inspector.get_foreign_keys(table)}
    keys |= {str(key) for key in inspector.get_unique_constraints(table)}
    keys |= {str(inspector.get_pk_constraint(table))}
    keys |= {str(index) for index in inspector.get_indexes(table) if index["unique"]}
    return {"columns": columns, "checks": checks, "keys": keys}


def find_incompatible_changes(before: Schema, after: Schema) -> list[str]:
    """Return what a statement for the earlier schema could fail on in the later one."""
    changes = [f"table {table} is gone" for table in before.keys() - after.keys()]
    for table in before.keys() & after.keys():
        old, new = before[table], after[table]
        changes += [
            f"{kind} of {table} changed" for kind in ("checks", "keys") if old[kind] != new[kind]
        ]
        changes += [f"{table}.{column} changed" for column in old["columns"] - new["columns"]]
        added = new["columns"] - old["columns"]
        changes += [f"{table}.{column}" for column in added if column.endswith(" required")]
    return changes


@pytest.mark.parametrize("migrations", LAYERS)
def test_a_compatible_migration_only_adds_tables_and_optional_columns(
    empty_database: Database, migrations: Migrations
) -> None:
    schema: Schema = {}
    if migrations is not TRACKER_MIGRATIONS:
        migrate(empty_database, TRACKER_MIGRATIONS)
    for script in list_scripts(migrations):
        upgrade_to(empty_database, migrations, script.revision)
        before, schema = schema, read_schema(empty_database)
        if script.module.compatible:
            assert find_incompatible_changes(before, schema) == [], script.revision


@pytest.mark.parametrize(
    ("statements", "change"),
    [
        pytest.param(["DROP TABLE upkeep"], "table upkeep is gone", id="table dropped"),
        pytest.param(
            ["ALTER TABLE upkeep RENAME COLUMN ran_at TO ran"],
            "upkeep.ran_at BIGINT required changed",
            id="column renamed",
        ),
        pytest.param(
            [
                "DROP TABLE upkeep",
                "CREATE TABLE upkeep (task VARCHAR(16) PRIMARY KEY, next_at BIGINT NOT NULL)",
            ],
            "upkeep.next_at BIGINT required",
            id="column that needs a value",
        ),
        pytest.param(
            ["CREATE UNIQUE INDEX one_at_once ON upkeep (ran_at)"],
            "keys of upkeep changed",
            id="unique index",
        ),
    ],
)
def test_other_changes_are_not_compatible(
    database: Database, tmp_path: Path, statements: list[str], change: str
) -> None:
    before = read_schema(database)
    migrate(
        database,
        add_migration(
            TRACKER_MIGRATIONS, "9999", tmp_path / "versions", *statements, compatible=False
        ),
    )
    assert change in find_incompatible_changes(before, read_schema(database))


def test_the_database_has_the_mark_of_each_applied_migration(
    database: Database, tmp_path: Path
) -> None:
    compatible = add_migration(TRACKER_MIGRATIONS, "9998", tmp_path / "first", compatible=True)
    later = add_migration(compatible, "9999", tmp_path / "second", compatible=False)
    for migrations in (compatible, later):
        migrate(database, migrations)
    with database.read() as connection:
        rows = [tuple(row) for row in connection.execute(sa.select(applied_migrations))]
    expected = [
        (migrations.layer, script.revision, script.module.compatible)
        for migrations in (TRACKER_MIGRATIONS, SIMULATOR_MIGRATIONS)
        for script in list_scripts(migrations)
    ]
    assert set(rows) == {*expected, ("tracker", "9998", True), ("tracker", "9999", False)}


def test_statements_for_the_previous_schema_still_work(database: Database) -> None:
    scripts = list_scripts(TRACKER_MIGRATIONS)
    [position] = [
        number for number, script in enumerate(scripts) if script.revision == PREVIOUS_REVISION
    ]
    assert all(script.module.compatible for script in scripts[position + 1 :])
    lines = PREVIOUS_STATEMENTS.read_text(encoding="utf-8").splitlines()
    statements = [line for line in lines if not line.startswith("--")]
    with database.write() as connection:
        for statement in statements:
            rows = connection.exec_driver_sql(statement)
            assert rows.returns_rows == statement.startswith("SELECT"), statement
