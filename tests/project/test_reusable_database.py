"""The database that tests share: each test finds it as if it were new."""

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
import sqlalchemy as sa

from simulator.schema import metadata as simulator_metadata
from tests.support.factory import Plan, make_busy_batch, make_campaign
from tests.support.postgresql import PostgresqlServer
from tests.support.reusable_database import MAX_DELETE_BYTES, TABLES, ReusableDatabase
from tracker.store.database import Database, connect
from tracker.store.schema.applied_migrations import applied_migrations
from tracker.store.schema.metadata import metadata


@pytest.fixture
def reusable(
    postgresql_server: PostgresqlServer, postgresql_template: str
) -> Iterator[ReusableDatabase]:
    reusable = ReusableDatabase(postgresql_server, postgresql_template)
    yield reusable
    reusable.drop()


def count_rows(database: Database) -> dict[str, int]:
    with database.read() as connection:
        return {
            name: connection.execute(
                sa.select(sa.func.count()).select_from(sa.table(name))
            ).scalar_one()
            for name in sa.inspect(connection).get_table_names()
            if not name.endswith("_version") and name != applied_migrations.name
        }


def test_rows_of_one_test_are_gone_in_the_next(reusable: ReusableDatabase) -> None:
    url = reusable.prepare()
    with closing(connect(url)) as database:
        first = make_busy_batch(database)
        make_campaign(database, Plan(size=2_000))
        query = sa.text("SELECT pg_relation_size('customers')")
        with database.read() as connection:
            assert connection.execute(query).scalar_one() > MAX_DELETE_BYTES
    reusable.clean()
    assert reusable.prepare() == url
    with closing(connect(url)) as database:
        tables = {*metadata.tables, *simulator_metadata.tables} - {applied_migrations.name}
        assert set(count_rows(database)) == tables == set(TABLES)
        assert set(count_rows(database).values()) == {0}
        assert make_busy_batch(database).campaign.id == first.campaign.id, "ids begin at 1 again"


def test_truncated_tables_and_an_analyzed_catalog_need_no_new_database(
    reusable: ReusableDatabase,
) -> None:
    """A server's autovacuum analyzes catalogs at any time."""
    url = reusable.prepare()
    for _ in range(2):
        with closing(connect(url)) as database:
            make_campaign(database, Plan(size=2_000))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ANALYZE pg_attribute")
        reusable.clean()
        assert reusable.prepare() == url


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER messages_legal ON messages",
        "ALTER TABLE tallies DROP CONSTRAINT tallies_attempt_check",
        "ALTER TABLE tallies ALTER COLUMN messages TYPE bigint",
        "ALTER TABLE messages SET (fillfactor = 100)",
        "DROP SCHEMA public CASCADE",
        "CREATE INDEX more ON messages (number)",
        "DROP VIEW messages_by_name",
        "UPDATE tracker_version SET version_num = '9999'",
        "ANALYZE",
        "VACUUM messages",
    ],
)
def test_a_changed_schema_is_not_left_to_the_next_test(
    reusable: ReusableDatabase, statement: str
) -> None:
    before = reusable.prepare()
    with psycopg.connect(before, autocommit=True) as connection:
        connection.execute(statement)
    reusable.clean()
    assert reusable.prepare() != before


def begin_transaction(session: "psycopg.Connection[tuple[object, ...]]") -> None:
    session.execute("LOCK TABLE messages")


def take_lock(session: "psycopg.Connection[tuple[object, ...]]") -> None:
    session.execute("SELECT pg_advisory_lock(1)")
    session.commit()


@pytest.mark.parametrize("occupy", [begin_transaction, take_lock])
def test_sessions_that_a_test_left_are_ended(
    reusable: ReusableDatabase,
    occupy: Callable[["psycopg.Connection[tuple[object, ...]]"], None],
) -> None:
    with psycopg.connect(reusable.prepare()) as session:
        occupy(session)
        reusable.clean()
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
        with psycopg.connect(reusable.prepare()) as other:
            assert other.execute("SELECT pg_try_advisory_lock(1)").fetchone() == (True,)
