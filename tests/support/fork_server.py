"""Run `sendtrace` in forks of one process that has loaded the modules of its commands.

To load the modules of a command takes longer than most commands run. A fork is a process of its
own, with its own streams, folder and environment. Of the variables that Python reads at its start,
only PYTHONPATH has an effect on it.
"""

import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

MAX_REQUEST_BYTES = 1 << 20

READY = b"ready"
"""What the process that forks sends when it has loaded all modules."""

MODULES = (
    "alembic.command",
    "pydantic",
    "simulator.cli.resume",
    "simulator.cli.runs",
    "simulator.cli.simulate",
    "simulator.cli.verify",
    "simulator.run.options",
    "simulator.pages.result_text",
    "simulator.run.run",
    "simulator.run.start",
    "tracker.audit.invariants",
    "tracker.cli",
    "tracker.queries.timeline",
    "tracker.store.sqlite",
    "workers.checks.validation",
)
"""Modules that a fork finds loaded; they load most others."""

STREAM_COUNT = 3
"""The streams that a request brings: stdin, stdout and stderr."""


class ForkServer:
    """The tests' end of the connection to the process that forks."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def run(
        self, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        request = json.dumps([arguments, str(folder), dict(environment)]).encode()
        with (
            open(os.devnull, "rb") as stdin,
            tempfile.TemporaryFile() as stdout,
            tempfile.TemporaryFile() as stderr,
        ):
            streams = [stdin.fileno(), stdout.fileno(), stderr.fileno()]
            socket.send_fds(self._connection, [request], streams)
            exit_code = int(self._connection.recv(MAX_REQUEST_BYTES))
            stdout.seek(0)
            stderr.seek(0)
            return subprocess.CompletedProcess(
                arguments, exit_code, stdout.read().decode(), stderr.read().decode()
            )


@contextmanager
def start_fork_server() -> Iterator[ForkServer]:
    """Start the process that forks, for the duration of the block."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", __name__, str(theirs.fileno())]
    with ours, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        try:
            assert ours.recv(MAX_REQUEST_BYTES) == READY
            yield ForkServer(ours)
        finally:
            process.kill()


def main() -> None:
    """Serve requests until the tests end."""
    from simulator.cli.main import main as run_command  # the tests' own processes don't need it

    for module in MODULES:
        import_module(module)
    gc.freeze()  # a fork that collects garbage would copy the memory of all modules
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        connection.send(READY)
        while True:
            request, streams, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES, STREAM_COUNT)
            if not request:
                return
            child = os.fork()
            if child == 0:
                break
            for stream in streams:
                os.close(stream)
            _, status = os.waitpid(child, 0)
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    _become(request, streams)
    run_command()


def _become(request: bytes, streams: Sequence[int]) -> None:
    """Take the arguments, folder, environment and streams of a request."""
    arguments, folder, environment = json.loads(request)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # TMPDIR decides
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv[1:] = arguments


if __name__ == "__main__":
    main()
