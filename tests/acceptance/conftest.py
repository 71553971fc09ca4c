"""The real command at a prompt of its own, and runs of it that the tests share."""

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
    """A folder for temporary files. Its path is short, as those of sockets must be."""
    folder = Path(tempfile.mkdtemp(prefix="st-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def make_shell(
    tmp_path_factory: pytest.TempPathFactory, scratch: Path
) -> Iterator[Callable[..., Shell]]:
    """Makes prompts, each with folders of its own; what runs there is ended at the end."""
    made: list[Shell] = []

    def make(**settings: str) -> Shell:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        made.append(Shell(tmp_path_factory.mktemp("prompt"), folder, **settings))
        return made[-1]

    yield make
    for shell in made:
        shell.clean_up()


@pytest.fixture
def shell(make_shell: Callable[..., Shell]) -> Iterator[Shell]:
    """A prompt of the test's own."""
    made = make_shell()
    yield made
    made.clean_up()


@pytest.fixture(scope="session")
def fresh_postgresql_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """The URL of a PostgreSQL database without any table."""
    name = f"acceptance_{uuid4().hex[:12]}"
    postgresql_server.execute(f"CREATE DATABASE {name}")
    yield postgresql_server.database_url(name)
    postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def on_sqlite(make_shell: Callable[..., Shell]) -> FinishedRun:
    """A finished run on SQLite. Tests only read it."""
    shell = make_shell()
    return FinishedRun.of(shell, shell.write("small.toml", make_scenario()), "--batch-size", "500")


@pytest.fixture(scope="session")
def on_postgresql(make_shell: Callable[..., Shell], fresh_postgresql_url: str) -> FinishedRun:
    """The same run on PostgreSQL. Tests only read it."""
    shell = make_shell(SENDTRACE_DATABASE_URL=fresh_postgresql_url)
    return FinishedRun.of(shell, shell.write("small.toml", make_scenario()), "--batch-size", "500")


@pytest.fixture(params=("sqlite", "postgresql"))
def finished(request: pytest.FixtureRequest) -> FinishedRun:
    """A finished run, on each kind of database. Tests only read it."""
    run = request.getfixturevalue(f"on_{request.param}")
    assert isinstance(run, FinishedRun)
    return run
