"""What PostgreSQL is asked for: with few rights, in few round trips, from a version on."""

import math
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from simulator import schema as simulator_schema
from simulator.schema import analyze_all_tables, open_database
from tests.support.postgresql import MIN_VERSION, PostgresqlServer
from tracker.errors import UsageError
from tracker.settings import load_settings
from tracker.store import postgresql
from tracker.store.database import check_reachable, connect
from tracker.store.schema.metadata import metadata


@pytest.fixture
def ordinary_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """Return the URL of an empty database whose user owns it, and has no other rights."""
    name = f"ordinary_{uuid4().hex[:12]}"
    postgresql_server.execute(f"CREATE ROLE {name}")
    postgresql_server.execute(f"CREATE DATABASE {name} OWNER {name}")
    url = sa.make_url(postgresql_server.database_url(name))
    url = url.update_query_dict({"options": f"-c role={name}"})
    yield url.render_as_string(hide_password=False)
    postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    postgresql_server.execute(f"DROP ROLE {name}")


def test_own_tables_are_analyzed_without_a_warning(ordinary_url: str) -> None:
    open_database(load_settings(database_url=ordinary_url)).close()
    warnings: list[str | None] = []

    def listen(connection: psycopg.Connection, _: object) -> None:
        connection.add_notice_handler(lambda notice: warnings.append(notice.message_primary))

    with closing(connect(ordinary_url)) as database:
        sa.event.listen(database.engine, "connect", listen)
        analyze_all_tables(database)
        with database.read() as connection:
            tables = set(
                connection.scalars(
                    sa.text(
                        "SELECT relname::text FROM pg_class"
                        " WHERE relkind = 'r' AND reltuples >= 0 AND oid >= 16384"
                    )
                )
            )
    assert tables == {*metadata.tables, *simulator_schema.metadata.tables}
    assert warnings == []


def test_settings_of_a_transaction_cost_no_round_trip(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "PING_AFTER_IDLE_SECONDS", math.inf)
    file = tmp_path / "trace"
    with closing(connect(postgresql_url)) as database:
        with database.read() as connection:
            driver: Any = connection.connection.driver_connection
        with file.open("w") as trace:
            driver.pgconn.trace(trace.fileno())
            with database.write() as connection:
                connection.execute(sa.text("SELECT 1"))
            driver.pgconn.untrace()
    sent = [line.split("\t")[-1] for line in file.read_text().splitlines() if "\tF\t" in line]
    begin = ' "BEGIN; SET LOCAL enable_seqscan = off; SET LOCAL jit = off"'
    assert sent == [begin, ' "SELECT 1"', ' "COMMIT"']


def test_no_setting_outlives_its_transaction(postgresql_url: str) -> None:
    """Behind PgBouncer in transaction mode, the session then serves another client."""
    with closing(connect(postgresql_url)) as database:
        with database.read_only_analytics() as connection:
            driver: Any = connection.connection.driver_connection
            isolation = connection.execute(sa.text("SHOW transaction_isolation")).scalar()
            assert isolation == "repeatable read"
            with pytest.raises(sa.exc.InternalError, match="read-only transaction"):
                connection.execute(sa.text("CREATE TABLE forbidden (id INTEGER)"))
        query = "SELECT name FROM pg_settings WHERE source = 'session'"
        assert driver.execute(query).fetchall() == []


def test_an_old_server_is_refused_in_one_sentence(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "MIN_SERVER_VERSION", 99)
    with closing(connect(postgresql_url)) as database, pytest.raises(UsageError) as refused:
        check_reachable(database)
    pattern = r"the database server is PostgreSQL \d+\.\d+; sendtrace needs 99 or newer"
    assert re.fullmatch(pattern, str(refused.value))


def test_the_oldest_supported_version_is_one_that_is_tested() -> None:
    assert postgresql.MIN_SERVER_VERSION == MIN_VERSION
