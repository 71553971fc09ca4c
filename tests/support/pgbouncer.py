"""PgBouncer in transaction mode in front of a server that a test uses."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from tests.support.shell import wait_until

PORT = 6432
"""Part of the name of the socket; PgBouncer listens on no port of the network."""

POOL_SIZE = 6
"""Connections to the server; fewer than those of a run, so that they are shared."""

CONFIGURATION = """
[databases]
* = host={host} port={port} user={user}{password}

[pgbouncer]
pool_mode = transaction
default_pool_size = {pool_size}
auth_type = any
unix_socket_dir = {folder}
listen_port = {own_port}
logfile = {folder}/log
"""


def find_pgbouncer() -> str | None:
    """Return the path of the program, or None where it isn't installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def start_pgbouncer(program: str, server_url: str) -> Iterator[str]:
    """Yield the URL of a database behind a PgBouncer of its own.

    Args:
        server_url: the URL of the database at the server. PgBouncer runs as the owner of the
            server's socket, since it refuses root.
    """
    url = sa.make_url(server_url)
    host = str(url.query.get("host") or url.host)
    folder = Path(tempfile.mkdtemp(prefix="st-pgb-"))
    run_as: dict[str, int] = {}
    if os.geteuid() == 0:
        owner = os.stat(host).st_uid if os.path.exists(host) else 65534
        os.chown(folder, owner, -1)
        run_as = {"user": owner}
    file = folder / "pgbouncer.ini"
    file.write_text(
        CONFIGURATION.format(
            host=host,
            port=url.port or 5432,
            user=url.username,
            password=f" password={url.password}" if url.password else "",
            pool_size=POOL_SIZE,
            folder=folder,
            own_port=PORT,
        )
    )
    process = subprocess.Popen(
        [program, "--quiet", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **run_as,  # type: ignore[call-overload]
    )
    try:
        wait_until(lambda: _accepts(folder / f".s.PGSQL.{PORT}", process), "PgBouncer listens")
        behind = sa.URL.create(
            "postgresql",
            username=url.username,
            database=url.database,
            query={"host": str(folder), "port": str(PORT)},
        )
        yield behind.render_as_string(hide_password=False)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _accepts(path: Path, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, (path.parent / "log").read_text()
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return True
    return False
