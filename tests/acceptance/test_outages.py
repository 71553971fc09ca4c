"""Outages of the broker and the database: they cost time, up to a limit that interrupts the run."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
import sqlalchemy as sa

from simulator.faults.connections import make_database_proxy, redirect_database
from tests.support.postgresql import PostgresqlServer
from tests.support.reusable_database import END_OTHER_SESSIONS
from tests.support.shell import Shell, StartedCommand, make_scenario, wait_until

SCENARIO = make_scenario(email=200, sms=100, median="10ms", p99="20ms").replace(
    'requires = ["coupon"]', 'load = { shape = { constant = 20 } }\nrequires = ["coupon"]'
)
"""Ten seconds of arrivals."""


def find_broker(command: StartedCommand) -> psutil.Process:
    """Return the process of a command's embedded broker."""
    children = psutil.Process(command.process.pid).children(recursive=True)
    [broker] = [child for child in children if child.name() == "valkey-server"]
    return broker


def test_a_broker_that_stays_away_interrupts_the_run_which_is_then_judged_and_resumed(
    shell: Shell,
) -> None:
    file = shell.write("small.toml", SCENARIO)
    command = shell.start("simulate", file, "--outage-limit", "2s")
    wait_until(lambda: shell.count_moved() > 20, "messages move")
    find_broker(command).kill()
    assert command.wait() == 1, command.stderr_text
    assert command.stderr_text.count("broker unavailable, retrying\n") == 1
    *_, reason, hint = command.stderr_text.strip().splitlines()
    assert reason == "sendtrace: the broker was unavailable for more than 2 s"
    assert hint == (
        "run 1 was interrupted; once it is available again, sendtrace resume 1 continues it"
    )
    [run] = json.loads(shell.run("runs", "--format", "json").stdout)
    assert run["state"] == "interrupted"

    judged = shell.run("judge", "1")
    assert judged.returncode == 130, judged.stderr
    resumed = shell.run("resume", "1", "--outage-limit", "30s")
    assert resumed.returncode == 0, resumed.stderr + resumed.stdout
    verified = shell.run("verify")
    assert verified.returncode == 0, verified.stdout


UPTIME_SECONDS = "SELECT extract(epoch FROM now() - pg_postmaster_start_time())::int"


@pytest.fixture
def database_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """Return the URL of an empty PostgreSQL database for one test."""
    name = f"outages_{uuid4().hex[:12]}"
    postgresql_server.execute(f"CREATE DATABASE {name}")
    yield postgresql_server.database_url(name)
    postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def read_number(database_url: str, query: str) -> int:
    """Return a number from a database, or 0 while the table does not exist."""
    url = sa.make_url(database_url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with suppress(sa.exc.ProgrammingError), engine.connect() as connection:
        return int(connection.scalar(sa.text(query)) or 0)
    return 0


def test_a_database_that_stays_away_interrupts_the_run_which_is_resumed_after_its_last_heartbeat(
    make_shell: Callable[..., Shell], scratch: Path, database_url: str
) -> None:
    folder = scratch / uuid4().hex[:8]
    with make_database_proxy(database_url, folder).running() as proxy:
        shell = make_shell(SENDTRACE_DATABASE_URL=redirect_database(database_url, folder))
        file = shell.write("small.toml", SCENARIO)
        command = shell.start("simulate", file, "--outage-limit", "2s")
        moved = "SELECT count(*) FROM messages_by_name WHERE status <> 'queued'"
        wait_until(lambda: read_number(database_url, moved) > 20, "messages move")
        proxy.disconnect()
        assert command.wait() == 1, command.stderr_text
        *_, reason, hint = command.stderr_text.strip().splitlines()
        assert reason == "sendtrace: the database was unavailable for more than 2 s"
        assert hint == (
            "run 1 is interrupted, which is not on record: the database is unavailable;"
            " once it is available again and 30 s have passed, sendtrace resume 1 continues it"
        )
        # The silence of a driver counts only while the server was up.
        wait_until(lambda: read_number(database_url, UPTIME_SECONDS) > 31, "the server is old")
        # A heartbeat that was under way would count as one of a living driver.
        server = PostgresqlServer(database_url)
        server.execute(END_OTHER_SESSIONS)
        server.execute("UPDATE runs SET heartbeat_at = heartbeat_at - 60000000")
        directly = {"SENDTRACE_DATABASE_URL": database_url}
        resumed = shell.run("resume", "1", settings=directly)
        assert resumed.returncode == 0, resumed.stderr + resumed.stdout
        verified = shell.run("verify", settings=directly)
        assert verified.returncode == 0, verified.stdout
