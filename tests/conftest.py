"""Fixtures of all tests: real databases and a real broker, each started once a session."""

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from simulator.schema import open_database
from simulator.stack.local import start_local_broker
from tests.support.compiled_statements import share_compiled_statements
from tests.support.postgresql import SERVER_URL_VARIABLE, PostgresqlServer, start_bundled_server
from tests.support.reusable_database import ReusableDatabase
from tests.support.statements import observe_statements
from tracker.settings import Settings, load_settings
from tracker.store.database import Database, connect

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session", autouse=True)
def heed_signals() -> None:
    """Heed the signals that tests send; a process in the background inherits that they are ignored.

    The processes that tests start inherit from this one.
    """
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clear_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the developer's shell, so that tests don't depend on them."""
    for name in list(os.environ):
        if name.startswith("SENDTRACE_") and name != SERVER_URL_VARIABLE:
            monkeypatch.delenv(name)


@pytest.fixture
def no_retry_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call services again at once; modules request it with `pytest.mark.usefixtures`."""
    monkeypatch.setattr("workers.services.base.RETRY_DELAYS_SECONDS", (0.0, 0.0))


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """Return the PostgreSQL server of the session: the one that the environment names, or ours."""
    url = os.environ.get(SERVER_URL_VARIABLE)
    if url:
        yield PostgresqlServer(url)
        return
    with start_bundled_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """Return the name of a migrated, empty database; copying it is faster than migrating."""
    name = f"template_{uuid4().hex[:12]}"
    postgresql_server.execute(f"CREATE DATABASE {name}")
    open_database(load_settings(database_url=postgresql_server.database_url(name))).close()
    yield name
    postgresql_server.execute(f"DROP DATABASE {name}")


@pytest.fixture(scope="session")
def reusable_database(
    postgresql_server: PostgresqlServer, postgresql_template: str
) -> Iterator[ReusableDatabase]:
    """Return the database that all tests of this process use."""
    reusable = ReusableDatabase(postgresql_server, postgresql_template)
    yield reusable
    reusable.drop()


@pytest.fixture
def postgresql_url(reusable_database: ReusableDatabase) -> Iterator[str]:
    """Return the URL of a database for one test, with all tables and no rows."""
    yield reusable_database.prepare()
    reusable_database.clean()


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Restore the umask, which commands change in the process that runs them."""
    previous = os.umask(0o022)
    os.umask(previous)
    yield
    os.umask(previous)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return the path of a state folder for one test."""
    return tmp_path / "home"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated, empty SQLite file; copying it is faster than migrating."""
    settings = load_settings(home=tmp_path_factory.mktemp("template"))
    settings.prepare_home()
    open_database(settings).close()
    file = settings.home / "sendtrace.db"
    file.chmod(0o600)  # as a command would have made it
    return file


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, home: Path) -> Settings:
    """Return settings with a state folder and a database for one test, on each backend."""
    is_postgresql = request.param == "postgresql"
    url = request.getfixturevalue("postgresql_url") if is_postgresql else None
    settings = load_settings(home=home, database_url=url)
    settings.prepare_home()
    if not is_postgresql:
        shutil.copy(request.getfixturevalue("sqlite_template"), settings.home / "sendtrace.db")
    return settings


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Open an empty database with all tables, on each backend."""
    database = connect(settings.resolved_database_url)  # migrated already: see the templates
    share_compiled_statements(database)
    observe_statements(database)
    yield database
    database.close()


@pytest.fixture(scope="session")
def broker_url() -> Iterator[str]:
    """Return the URL of the Valkey that all tests share."""
    with start_local_broker() as broker:
        yield broker.url


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port that refuses connections; it is bound, so no other process listens there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
