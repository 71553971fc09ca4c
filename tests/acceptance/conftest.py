"""Shells that run the real command, and finished runs that the tests share."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.browser import browser as browser
from tests.support.fork_server import ForkServer, start_fork_server
from tests.support.postgresql import PostgresqlServer
from tests.support.shell import FOREIGN_SETTINGS, MODULE, FinishedRun, Shell, make_scenario

SHARED_RUN_MODULES = frozenset(
    {"test_simulate", "test_reading", "test_live_page", "test_page_in_browser", "test_recover"}
)
"""Modules that share the finished runs and the PostgreSQL server of one process."""

SPLIT_MODULES = frozenset(
    {"test_attach", "test_fault_matrix", "test_faults", "test_gateways", "test_make", "test_rules"}
)
"""Modules whose tests share nothing."""


class AcceptanceScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """A scheduler that keeps tests which share something expensive in one process."""

    def _split_scope(self, nodeid: str) -> str:
        module = Path(nodeid.partition("::")[0]).stem
        if module in SHARED_RUN_MODULES:
            return "finished runs"
        return nodeid if module in SPLIT_MODULES else module


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> AcceptanceScheduling:
    """Return the scheduler that `--dist loadscope` uses for these tests."""
    return AcceptanceScheduling(config, log)


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """Return a folder for temporary files, whose path is short enough for a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="st-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Return the server that `Shell.run` uses."""
    with start_fork_server() as server:
        yield server


@pytest.fixture(scope="session")
def make_shell(
    tmp_path_factory: pytest.TempPathFactory, scratch: Path, fork_server: ForkServer
) -> Iterator[Callable[..., Shell]]:
    """Return a function that makes shells with folders of their own; clean up at the end."""
    shells: list[Shell] = []

    def make(**settings: str) -> Shell:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        shells.append(Shell(tmp_path_factory.mktemp("prompt"), folder, fork_server, **settings))
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
    """Return a finished run on SQLite in the folder of another project; tests only read it."""
    shell = make_shell(**FOREIGN_SETTINGS)
    shell.write_foreign_modules()
    return _run_small(shell)


@pytest.fixture(scope="session")
def on_postgresql(make_shell: Callable[..., Shell], fresh_postgresql_url: str) -> FinishedRun:
    """Return a finished run of the same scenario on PostgreSQL, which tests only read."""
    return _run_small(make_shell(SENDTRACE_DATABASE_URL=fresh_postgresql_url))


def _run_small(shell: Shell) -> FinishedRun:
    """Run the usual scenario as a user does, in a process that loads its own modules."""
    file = shell.write("small.toml", make_scenario())
    return FinishedRun.of(shell, file, "--batch-size", "500", program=MODULE)


@pytest.fixture(params=("sqlite", "postgresql"))
def finished(request: pytest.FixtureRequest) -> FinishedRun:
    """Return the finished run on each backend."""
    run = request.getfixturevalue(f"on_{request.param}")
    assert isinstance(run, FinishedRun)
    return run
