"""Real databases and a real broker for the tests, each started once and used by all."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from simulator.schema import open_database
from simulator.stack.local import start_local_broker
from tests.support.postgresql import SERVER_URL_VARIABLE, PostgresqlServer, start_bundled_server
from tracker.settings import Settings, load_settings
from tracker.store.database import Database

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the developer's shell, so that tests don't depend on them."""
    for name in list(os.environ):
        if name.startswith("SENDTRACE_") and name != SERVER_URL_VARIABLE:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """The PostgreSQL server for all tests: the one that the environment names, else our own."""
    url = os.environ.get(SERVER_URL_VARIABLE)
    if url:
        yield PostgresqlServer(url)
        return
    with start_bundled_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """The name of a migrated, empty database. Copying it is faster than migrating anew."""
    name = f"template_{uuid4().hex[:12]}"
    postgresql_server.execute(f"CREATE DATABASE {name}")
    open_database(load_settings(database_url=postgresql_server.database_url(name))).close()
    yield name
    postgresql_server.execute(f"DROP DATABASE {name}")


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer, postgresql_template: str) -> Iterator[str]:
    """The URL of a database of the test's own, with all tables and no rows."""
    name = f"test_{uuid4().hex[:12]}"
    postgresql_server.execute(f"CREATE DATABASE {name} TEMPLATE {postgresql_template}")
    yield postgresql_server.database_url(name)
    postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The path of a state folder of the test's own."""
    return tmp_path / "home"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file; copying it is faster than migrating."""
    made = load_settings(home=tmp_path_factory.mktemp("template"))
    made.prepare_home()
    open_database(made).close()
    return made.home / "sendtrace.db"


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, home: Path) -> Settings:
    """Settings with a state folder and a database of the test's own, on each kind of database."""
    is_postgresql = request.param == "postgresql"
    url = request.getfixturevalue("postgresql_url") if is_postgresql else None
    made = load_settings(home=home, database_url=url)
    made.prepare_home()
    if not is_postgresql:
        shutil.copy(request.getfixturevalue("sqlite_template"), made.home / "sendtrace.db")
    return made


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """An empty database with all tables, of each kind."""
    opened = open_database(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def broker_url() -> Iterator[str]:
    """The URL of a real Valkey that all tests share."""
    with start_local_broker() as broker:
        yield broker.url
