"""Shells that run the real command, and finished runs that the tests share."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.browser import browser as browser
from tests.support.postgresql import PostgresqlServer
from tests.support.shell import FinishedRun, Shell, make_scenario


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """Return a folder for temporary files, whose path is short enough for a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="st-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def make_shell(
    tmp_path_factory: pytest.TempPathFactory, scratch: Path
) -> Iterator[Callable[..., Shell]]:
    """Return a function that makes shells with folders of their own; clean up at the end."""
    shells: list[Shell] = []

    def make(**settings: str) -> Shell:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        shells.append(Shell(tmp_path_factory.mktemp("prompt"), folder, **settings))
        return shells[-1]

    yield make
    for shell in shells:
        shell.clean_up()


@pytest.fixture
def shell(make_shell: Callable[..., Shell]) -> Iterator[Shell]:
    """Return a shell for one test."""
    shell = make_shell()
    yield shell
    shell.clean_up()


@pytest.fixture(scope="session")
def fresh_postgresql_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """Return the URL of a PostgreSQL database without any table."""
    name = f"acceptance_{uuid4().hex[:12]}"
    postgresql_server.execute(f"CREATE DATABASE {name}")
    yield postgresql_server.database_url(name)
    postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def on_sqlite(make_shell: Callable[..., Shell]) -> FinishedRun:
    """Return a finished run on SQLite, which tests only read."""
    shell = make_shell()
    return FinishedRun.of(shell, shell.write("small.toml", make_scenario()), "--batch-size", "500")


@pytest.fixture(scope="session")
def on_postgresql(make_shell: Callable[..., Shell], fresh_postgresql_url: str) -> FinishedRun:
    """Return a finished run of the same scenario on PostgreSQL, which tests only read."""
    shell = make_shell(SENDTRACE_DATABASE_URL=fresh_postgresql_url)
    return FinishedRun.of(shell, shell.write("small.toml", make_scenario()), "--batch-size", "500")


@pytest.fixture(params=("sqlite", "postgresql"))
def finished(request: pytest.FixtureRequest) -> FinishedRun:
    """Return the finished run on each backend."""
    run = request.getfixturevalue(f"on_{request.param}")
    assert isinstance(run, FinishedRun)
    return run
