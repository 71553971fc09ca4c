"""Child processes: started with a watchdog, stopped, then killed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from simulator.stack.watchdog import start_watchdog

MAX_LOG_BYTES = 10_000_000
"""Size of a log file above which it is renamed to `NAME.old.log` before its child starts."""

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
        self._watchdog.close()


def _rotate_log(log: Path) -> None:
    with suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".old.log"))
