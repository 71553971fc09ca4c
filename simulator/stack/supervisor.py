"""Children that are kept alive: started in order, restarted when they die, stopped together."""

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from simulator.stack.watchdog import start_watchdog

MIN_RESTART_DELAY_SECONDS, MAX_RESTART_DELAY_SECONDS = 1.0, 30.0
"""Seconds before a child that died is started again: twice as long each time."""

STABLE_AFTER_SECONDS = 60.0
"""Seconds after which a child that died had lived: its next pause is the first one again."""

MAX_LOG_BYTES = 10_000_000
"""Bytes of a log at which it is put aside when its child is started; one that was is kept."""


@dataclass(frozen=True, kw_only=True)
class ChildProcess:
    """What is to be kept running. ``patience`` is how many seconds it has to end when it is told
    to."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path
    patience: float = 10.0


class _RunningChild:
    """A child that was started, and a shell that ends it should we be no more."""

    def __init__(self, child: ChildProcess, ended: Callable[["_RunningChild"], None]) -> None:
        self.child = child
        self.started_at = time.monotonic()
        _rotate_log(child.log)
        with child.log.open("ab") as output:
            self.process = subprocess.Popen(
                child.command,
                env={**os.environ, **child.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us, who then stop the children in order
            )
        last_will = f'kill -TERM "$1"; sleep {child.patience:g}; kill -KILL -"$1"'
        self._watchdog = ExitStack()
        self._watchdog.enter_context(start_watchdog(last_will, str(self.process.pid)))
        threading.Thread(target=self._wait_for_exit, args=(ended,), daemon=True).start()

    def _wait_for_exit(self, ended: Callable[["_RunningChild"], None]) -> None:
        self.process.wait()
        ended(self)

    def request_stop(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def wait_or_kill(self, patience: float) -> None:
        """See to it that nothing is left of it, at once or after so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._watchdog.close()


def _rotate_log(log: Path) -> None:
    with suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".old.log"))


class Supervisor:
    """Keeps children running; ``say`` tells what happens to them, a line at a time.

    Children are in groups: they are started in the order of these and stopped in the opposite one,
    those of a group at once.
    """

    def __init__(
        self, groups: Sequence[Sequence[ChildProcess]], say: Callable[[str], None]
    ) -> None:
        self._groups, self._log = groups, say
        self._running: dict[str, _RunningChild] = {}
        self._exited: queue.Queue[_RunningChild] = queue.Queue()
        self._restart_delays: dict[str, float] = {}
        self._due_restarts: dict[str, tuple[float, ChildProcess]] = {}

    def start(self) -> None:
        """Start all children."""
        for group in self._groups:
            for child in group:
                self._start(child)

    def _start(self, child: ChildProcess) -> None:
        self._running[child.name] = _RunningChild(child, self._exited.put)

    def restart_dead_children(self, most: float | None = None) -> None:
        """Wait for the next child that dies or is due, ``most`` seconds at the longest, and see to
        it."""
        now = time.monotonic()
        waits = [most] if most is not None else []
        waits += [max(0.0, at - now) for at, _ in self._due_restarts.values()]
        with suppress(queue.Empty):
            self._schedule_restart(self._exited.get(timeout=min(waits, default=None)))
        for name, (at, child) in list(self._due_restarts.items()):
            if at <= time.monotonic():
                del self._due_restarts[name]
                self._start(child)
                self._log(f"{name} is started again")

    def _schedule_restart(self, dead: _RunningChild) -> None:
        child = dead.child
        dead.wait_or_kill(0)
        self._running.pop(child.name, None)
        lived = time.monotonic() - dead.started_at
        pause = (
            MIN_RESTART_DELAY_SECONDS
            if lived > STABLE_AFTER_SECONDS
            else self._restart_delays.get(child.name, MIN_RESTART_DELAY_SECONDS)
        )
        self._restart_delays[child.name] = min(2 * pause, MAX_RESTART_DELAY_SECONDS)
        self._due_restarts[child.name] = time.monotonic() + pause, child
        self._log(
            f"{child.name} ended with exit code {dead.process.returncode}; it is started again in"
            f" {pause:g} s; its log is {child.log}"
        )

    def stop(self) -> None:
        """Stop all children, the last group first; interrupted, at once."""
        self._due_restarts.clear()
        try:
            for group in reversed(self._groups):
                running = [self._running[each.name] for each in group if each.name in self._running]
                for each in running:
                    each.request_stop()
                deadline = time.monotonic() + max((each.patience for each in group), default=0.0)
                for each in running:
                    each.wait_or_kill(max(0.0, deadline - time.monotonic()))
                    del self._running[each.child.name]
        finally:
            for each in self._running.values():
                each.wait_or_kill(0)
            self._running.clear()
