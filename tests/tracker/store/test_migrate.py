"""Who changes a schema: `migrate`, and whoever first uses an empty database."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from simulator.schema import ALL_MIGRATIONS
from tests.support.migrations import add_migration, list_scripts, upgrade_to
from tracker.errors import DatabaseIsForeign, DatabaseTooNew, DatabaseTooOld, NothingRecorded
from tracker.store.applied_migrations import SchemaWatch
from tracker.store.database import Database
from tracker.store.migrate import (
    TRACKER_MIGRATIONS,
    check_schema,
    find_pending,
    migrate,
    prepare_schema,
)

PREVIOUS = list_scripts(TRACKER_MIGRATIONS)[-2].revision


def list_tables(database: Database) -> list[str]:
    with database.read() as connection:
        return sa.inspect(connection).get_table_names()


def test_an_empty_database_gets_its_tables_when_it_is_first_used(empty_database: Database) -> None:
    with pytest.raises(NothingRecorded, match="; run sendtrace simulate first"):
        check_schema(empty_database, *ALL_MIGRATIONS)
    assert len(find_pending(empty_database, *ALL_MIGRATIONS)) > 2
    assert list_tables(empty_database) == [], "who only looks creates nothing"
    prepare_schema(empty_database, *ALL_MIGRATIONS)
    check_schema(empty_database, *ALL_MIGRATIONS)
    assert find_pending(empty_database, *ALL_MIGRATIONS) == []


@pytest.mark.parametrize("use", [check_schema, prepare_schema])
def test_only_migrate_changes_an_older_schema(
    empty_database: Database, use: Callable[..., object]
) -> None:
    upgrade_to(empty_database, TRACKER_MIGRATIONS, PREVIOUS)
    before = list_tables(empty_database)
    with pytest.raises(DatabaseTooOld) as refused:
        use(empty_database, TRACKER_MIGRATIONS)
    assert str(refused.value).endswith(
        f"has an older schema (its tracker tables are at {PREVIOUS}, this version knows"
        f" {TRACKER_MIGRATIONS.head}); run sendtrace migrate"
    )
    assert refused.value.exit_code == 2
    [pending] = find_pending(empty_database, TRACKER_MIGRATIONS)
    assert pending.revision == TRACKER_MIGRATIONS.head
    assert list_tables(empty_database) == before
    assert migrate(empty_database, TRACKER_MIGRATIONS) == [pending]
    assert migrate(empty_database, TRACKER_MIGRATIONS) == []
    check_schema(empty_database, TRACKER_MIGRATIONS)


@pytest.mark.parametrize("use", [check_schema, prepare_schema, migrate, find_pending])
def test_a_database_of_another_application_is_left_alone(
    empty_database: Database, use: Callable[..., object]
) -> None:
    with empty_database.write() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id INTEGER)"))
    with pytest.raises(DatabaseIsForeign, match="tables of another application, such as orders;"):
        use(empty_database, *ALL_MIGRATIONS)
    assert list_tables(empty_database) == ["orders"]


def test_workers_go_on_with_compatible_migrations_and_no_others(
    database: Database, tmp_path: Path
) -> None:
    watch = SchemaWatch(database)
    compatible = add_migration(TRACKER_MIGRATIONS, "9998", tmp_path / "first", compatible=True)
    migrate(database, compatible)
    with database.read() as connection:
        watch.check(connection)
    prepare_schema(database, TRACKER_MIGRATIONS, accepts_compatible=True)
    with pytest.raises(DatabaseTooNew, match="made by a newer version"):
        prepare_schema(database, TRACKER_MIGRATIONS)

    migrate(database, add_migration(compatible, "9999", tmp_path / "second", compatible=False))
    with database.read() as connection, pytest.raises(DatabaseTooNew) as stopped:
        watch.check(connection)
    assert str(stopped.value).endswith(
        " was upgraded by a newer version of sendtrace (its tracker tables are at 9999);"
        " use that version"
    )
    with pytest.raises(DatabaseTooNew, match="made by a newer version"):
        prepare_schema(database, TRACKER_MIGRATIONS, accepts_compatible=True)
