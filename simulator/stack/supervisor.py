"""Supervisor: start children in order, restart those that die, stop all in the opposite order."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from simulator.stack.child import ChildCommand, ChildProcess

MIN_RESTART_DELAY_SECONDS = 1.0
"""Delay before a child is restarted; it doubles with each death in a row."""

MAX_RESTART_DELAY_SECONDS = 30.0

STABLE_AFTER_SECONDS = 60.0
"""A child that has run for longer than this is restarted after the shortest delay again."""


class Supervisor:
    """A supervisor that keeps children running.

    Args:
        groups: the children in the order of their start; those of a group start and stop together.
        log: called with a line for each child that exits or is restarted.
    """

    def __init__(
        self, groups: Sequence[Sequence[ChildCommand]], log: Callable[[str], None]
    ) -> None:
        self._groups, self._log = groups, log
        self._running: dict[str, ChildProcess] = {}
        self._exited: queue.Queue[ChildProcess] = queue.Queue()
        self._restart_delays: dict[str, float] = {}
        self._due_restarts: dict[str, tuple[float, ChildCommand]] = {}

    def start(self) -> None:
        """Start all children."""
        for group in self._groups:
            for command in group:
                self._start(command)

    def _start(self, command: ChildCommand) -> None:
        child = ChildProcess(command)
        self._running[command.name] = child
        threading.Thread(target=self._report_exit, args=(child,), daemon=True).start()

    def _report_exit(self, child: ChildProcess) -> None:
        child.wait()
        self._exited.put(child)

    def restart_dead_children(self, max_wait: float | None = None) -> None:
        """Wait until a child exits or a restart is due, and handle it.

        Args:
            max_wait: seconds after which to return although nothing happened; None waits forever.
        """
        now = time.monotonic()
        waits = [] if max_wait is None else [max_wait]
        waits += [max(0.0, due_at - now) for due_at, _ in self._due_restarts.values()]
        with suppress(queue.Empty):
            self._schedule_restart(self._exited.get(timeout=min(waits, default=None)))
        for name, (due_at, command) in list(self._due_restarts.items()):
            if due_at <= time.monotonic():
                del self._due_restarts[name]
                self._start(command)
                self._log(f"child restarted: name={name}")

    def find_pid(self, name: str) -> int | None:
        """Return the process id of a child; None if it doesn't run."""
        child = self._running.get(name)
        return None if child is None else child.pid

    def kill(self, name: str) -> None:
        """Kill a child with its own children; it is restarted as after any other death."""
        child = self._running.get(name)
        if child is not None:
            child.kill()

    def _schedule_restart(self, child: ChildProcess) -> None:
        command = child.command
        exit_code = child.exit_code
        child.kill()  # what it may have left in its session
        self._running.pop(command.name, None)
        is_stable = time.monotonic() - child.started_at > STABLE_AFTER_SECONDS
        delay = MIN_RESTART_DELAY_SECONDS
        if not is_stable:
            delay = self._restart_delays.get(command.name, delay)
        self._restart_delays[command.name] = min(2 * delay, MAX_RESTART_DELAY_SECONDS)
        self._due_restarts[command.name] = time.monotonic() + delay, command
        self._log(
            f"child exited: name={command.name} exit_code={exit_code} restart_in={delay:g}s"
            f" log={command.log}"
        )
        repaired = command.repair and command.repair()
        if repaired:
            self._log(repaired)

    def stop(self) -> None:
        """Stop all children, the last group first; on Ctrl-C kill what is left."""
        self._due_restarts.clear()
        try:
            for group in reversed(self._groups):
                self._stop_group(group)
        finally:
            for child in self._running.values():
                child.kill()
            self._running.clear()

    def _stop_group(self, group: Sequence[ChildCommand]) -> None:
        running = [
            self._running[command.name] for command in group if command.name in self._running
        ]
        for child in running:
            child.request_stop()
        deadline = time.monotonic() + max((command.stop_seconds for command in group), default=0.0)
        for child in running:
            child.wait(max(0.0, deadline - time.monotonic()))
            child.kill()
            del self._running[child.command.name]
