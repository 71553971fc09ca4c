"""Show the worker's warnings that a gateway is unavailable, while a run goes on."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from simulator.run.observers.base import RunObserver, RunSnapshot
from tracker.output.logs import parse_event
from workers.gateways.base import UNAVAILABLE_WARNING

WARNING_INTERVAL_SECONDS = 10.0
"""Seconds between two warnings that are shown; each batch of an unavailable gateway causes one."""


class GatewayWarnings(RunObserver):
    """An observer that shows warnings from the worker's log, since only they name the cause."""

    def __init__(self, worker_log: Path, log: Callable[[str], None]) -> None:
        self._worker_log = worker_log
        self._log = log
        self._position = 0
        self._due_at = 0.0

    def ticked(self, _snapshot: RunSnapshot) -> None:
        """Show the latest of the new warnings, unless one was shown a moment ago."""
        # Other lines may quote a server's reply, which may have any text.
        events = map(parse_event, self._read_new_lines())
        warnings = [event for event in events if event and event.startswith(UNAVAILABLE_WARNING)]
        now = time.monotonic()
        if warnings and now >= self._due_at:
            self._due_at = now + WARNING_INTERVAL_SECONDS
            self._log(warnings[-1])

    def _read_new_lines(self) -> list[str]:
        with suppress(FileNotFoundError), self._worker_log.open("rb") as log:
            if self._worker_log.stat().st_size < self._position:  # a large log was rotated
                self._position = 0
            log.seek(self._position)
            lines, end, _ = log.read().rpartition(b"\n")
            self._position += len(lines + end)
            return lines.decode(errors="replace").splitlines()
        return []
