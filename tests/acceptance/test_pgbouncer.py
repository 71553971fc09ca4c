"""A whole run through PgBouncer in transaction mode, where a session belongs to no client."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest

from tests.support.pgbouncer import POOL_SIZE, find_pgbouncer, start_pgbouncer
from tests.support.postgresql import PostgresqlServer
from tests.support.shell import FinishedRun, Shell, make_scenario

PROGRAM = find_pgbouncer()


@pytest.fixture
def pooled_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """Return the URL of a database without tables behind PgBouncer."""
    assert PROGRAM is not None
    name = f"pooled_{uuid4().hex[:12]}"
    postgresql_server.execute(f"CREATE DATABASE {name}")
    with start_pgbouncer(PROGRAM, postgresql_server.database_url(name)) as url:
        yield url
    postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.skipif(PROGRAM is None, reason="pgbouncer isn't installed; apt-get install pgbouncer")
def test_a_run_through_pgbouncer_matches_its_prediction(
    make_shell: Callable[..., Shell], pooled_url: str
) -> None:
    shell = make_shell(SENDTRACE_DATABASE_URL=pooled_url)
    file = shell.write("small.toml", make_scenario(email=300, sms=100, median="20ms"))
    run = FinishedRun.of(shell, file, "--batch-size", "50", "--workers", "4")
    assert run.result["verdict"]["passed"]
    assert [report["balanced"] for report in shell.reports()] == [True, True]
    with psycopg.connect(pooled_url, autocommit=True, prepare_threshold=None) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        [count] = connection.execute(query).fetchone() or [0]
    assert 1 <= count <= POOL_SIZE, "the run had no other connections"
    shell.assert_nothing_is_left()
