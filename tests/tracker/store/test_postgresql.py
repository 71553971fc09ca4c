"""What PostgreSQL is asked for: by a user without rights on the system's tables."""

from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from simulator import schema as simulator_schema
from simulator.schema import analyze_all_tables, open_database
from tests.support.postgresql import PostgresqlServer
from tracker.settings import load_settings
from tracker.store.database import connect
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
