"""Local broker and worker: an embedded Valkey and Celery, as child processes of the driver."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from celery import Celery
from redis import Redis
from redis.exceptions import RedisError

from simulator.stack.child import ChildCommand, ChildProcess
from simulator.stack.commands import socket_folder, valkey_command, worker_command
from tracker.errors import SendtraceError
from workers.queues import QUEUES

BROKER_START_SECONDS = 20.0
"""Seconds that the embedded Valkey has to answer; it takes a tenth of one."""

BROKER_POLL_SECONDS = 0.01

WORKER_START_SECONDS = 60
"""Seconds that a worker has to answer; it takes two on an idle machine."""

WORKER_STOP_SECONDS = 10.0
"""Seconds that a worker has to finish its tasks before it is killed."""

PING_TIMEOUT_SECONDS = 0.1
"""Seconds that a ping waits for a reply; the worker may be ready that long before it is noticed."""

QUICK_EXIT_SECONDS = 5.0
"""A worker that exits sooner than this after its start counts as a failed start."""

MAX_QUICK_EXITS = 3
"""Failed starts in a row after which the worker is not restarted again."""

LOG_TAIL_LINES = 5
"""Last lines of a dead worker's log that an error shows."""


class WorkerDied(SendtraceError):
    """The Celery worker exits whenever it is started."""


class LocalBroker:
    """An embedded Valkey on a Unix socket in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "broker.sock"
        self._command = ChildCommand(
            name="broker", command=valkey_command(self.socket, folder), log=folder / "broker.log"
        )
        self._server = ChildProcess(self._command)

    @property
    def url(self) -> str:
        """The broker's URL for Celery."""
        return f"redis+socket://{self.socket}"

    def client(self) -> Redis:
        """Return a new connection."""
        return Redis(unix_socket_path=str(self.socket))

    def wait_until_ready(self) -> None:
        """Return when the server answers; raise SendtraceError if it doesn't in time."""
        deadline = time.monotonic() + BROKER_START_SECONDS
        with closing(self.client()) as client:
            while True:
                try:
                    client.ping()
                except RedisError as error:
                    if time.monotonic() > deadline or self._server.exit_code is not None:
                        log = self._command.log.read_text(errors="replace").strip()
                        raise SendtraceError(f"the embedded broker did not start: {log}") from error
                    time.sleep(BROKER_POLL_SECONDS)
                else:
                    return

    def restart(self, *, keep_data: bool) -> None:
        """Stop the server and start it again, with or without the data that it held."""
        with closing(self.client()) as client:
            client.shutdown(save=keep_data, nosave=not keep_data)
        self._server.stop()
        if not keep_data:
            for dump in self.folder.glob("*.rdb"):
                dump.unlink()
        self._server = ChildProcess(self._command)
        self.wait_until_ready()

    def close(self) -> None:
        """Kill the server."""
        self._server.kill()


@contextmanager
def start_local_broker() -> Iterator[LocalBroker]:
    """Start an embedded Valkey for the duration of the block."""
    with socket_folder() as folder, closing(LocalBroker(folder)) as broker:
        broker.wait_until_ready()
        yield broker


class LocalWorker:
    """A Celery worker for every queue, restarted when it dies.

    Args:
        log: file for the worker's log; it is emptied first.
        temporary: folder for temporary files, which a worker that is killed leaves behind.
    """

    def __init__(
        self, *, broker: str, database: str, processes: int, log: Path, temporary: Path | None
    ) -> None:
        self.name = f"run-{os.getpid()}@{socket.gethostname()}"
        self.log = log
        self._command = ChildCommand(
            name="worker",
            command=worker_command(self.name, QUEUES, processes),
            environment={
                "SENDTRACE_BROKER_URL": broker,
                "SENDTRACE_DATABASE_URL": database,
                **({} if temporary is None else {"TMPDIR": str(temporary)}),
            },
            log=log,
            stop_seconds=WORKER_STOP_SECONDS,
        )
        self._restart_lock = threading.Lock()
        self._quick_exits = 0
        log.write_bytes(b"")
        self._child = ChildProcess(self._command)

    @property
    def pid(self) -> int:
        """Process id of the current worker; it changes with each restart."""
        return self._child.pid

    def wait_until_ready(self, app: Celery) -> None:
        """Return when the worker answers; raise WorkerDied if it doesn't in time."""
        deadline = time.monotonic() + WORKER_START_SECONDS
        while not app.control.ping([self.name], timeout=PING_TIMEOUT_SECONDS, limit=1):
            if self._child.exit_code is not None:
                raise self._make_died_error()
            if time.monotonic() > deadline:
                raise WorkerDied(
                    f"the worker did not answer within {WORKER_START_SECONDS} s; log: {self.log}"
                )

    def restart(self) -> None:
        """Stop the worker after its current tasks, and start it again."""
        with self._restart_lock:
            self._child.stop()
            self._child = ChildProcess(self._command)

    def restart_if_dead(self) -> int | None:
        """Start the worker again if it has exited; return its exit code, or None if it runs.

        Raises:
            WorkerDied: the worker has exited right after several starts in a row.
        """
        with self._restart_lock:
            exit_code = self._child.exit_code
            if exit_code is None:
                return None
            is_quick = time.monotonic() - self._child.started_at < QUICK_EXIT_SECONDS
            self._quick_exits = self._quick_exits + 1 if is_quick else 0
            if self._quick_exits > MAX_QUICK_EXITS:
                raise self._make_died_error()
            self._child.kill()
            self._child = ChildProcess(self._command)
            return exit_code

    def request_stop(self) -> None:
        """Have the worker exit after its current tasks; `stop` then has less to wait for."""
        self._child.request_stop()

    def stop(self) -> None:
        """Stop the worker after its current tasks."""
        self._child.stop()

    def kill(self) -> None:
        """Kill the worker and its pool at once."""
        self._child.kill()

    def _make_died_error(self) -> WorkerDied:
        lines = self.log.read_text(errors="replace").strip().splitlines()[-LOG_TAIL_LINES:]
        summary = f"the worker exited with code {self._child.exit_code}; log: {self.log}"
        return WorkerDied("\n  ".join([summary, *lines]))
