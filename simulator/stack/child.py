"""Child processes: started with a watchdog, stopped, then killed."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from simulator.stack.watchdog import start_watchdog

MAX_LOG_BYTES = 10_000_000
"""Size of a log file above which it is moved to `NAME.old.log`."""

LOG_CHECK_SECONDS = 10.0
"""Seconds between two looks at the size of a log file."""

STOP_SCRIPT = 'kill -TERM "$1"; sleep "$2"; kill -KILL -"$1"'
"""Stops a child: $1 is its process id, $2 the seconds that it has to exit."""


@dataclass(frozen=True, kw_only=True)
class ChildCommand:
    """The command of a child process, with its environment, log and time to stop.

    Attributes:
        name: what messages call the child.
        environment: variables that are added to ours.
        log: the file that the child's output is appended to.
        stop_seconds: seconds that the child has to exit after SIGTERM, before it is killed.
        repair: called before the child is restarted; returns an event for the log if it repaired
            something.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path
    stop_seconds: float = 10.0
    repair: Callable[[], str | None] | None = None


class ChildProcess:
    """A running child process. It never outlives this process for long: a watchdog stops it.

    The child leads a session of its own. So Ctrl-C in a terminal reaches only this process, which
    stops its children in the right order.
    """

    def __init__(self, command: ChildCommand) -> None:
        self.command = command
        self.started_at = time.monotonic()
        self._is_stop_requested = self._is_reaped = False
        self._has_ended = threading.Event()
        _rotate_log(command.log)
        with command.log.open("ab") as output:
            self._process = subprocess.Popen(
                command.command,
                env={**os.environ, **command.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        threading.Thread(target=self._rotate_log_when_large, daemon=True).start()
        self._watchdog = ExitStack()
        self._watchdog.enter_context(
            start_watchdog(STOP_SCRIPT, str(self.pid), f"{command.stop_seconds:g}")
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code of a child that has exited; negative for a signal."""
        return self._process.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait until the child exits, for a number of seconds at most; return its exit code."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode

    def _rotate_log_when_large(self) -> None:
        while not self._has_ended.wait(LOG_CHECK_SECONDS):
            _rotate_log(self.command.log)

    def request_stop(self) -> None:
        """Send SIGTERM, once: a Celery worker drops its tasks at the second one."""
        if not self._is_stop_requested and self.exit_code is None:
            self._is_stop_requested = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Stop the child politely; kill it after its `stop_seconds`, or at once on Ctrl-C."""
        self.request_stop()
        try:
            self.wait(self.command.stop_seconds)
        except KeyboardInterrupt:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the child and its own children, if any is left, and reap it.

        A second call does nothing: the system may have given the process id to another process.
        """
        if self._is_reaped:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._is_reaped = True
        self._has_ended.set()
        self._watchdog.close()


def _rotate_log(log: Path) -> None:
    """Empty a large log after a copy. Its writers append, so they go on at its new end."""
    with suppress(OSError):  # no log yet, or no space for a copy
        if log.stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(log, log.with_suffix(".old.log"))
            os.truncate(log, 0)
