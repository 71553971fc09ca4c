"""Show the worker's warnings that a gateway is unavailable, while a run goes on."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from simulator.run.observers.base import RunObserver, RunSnapshot
from workers.gateways.base import UNAVAILABLE_WARNING

WARNING_INTERVAL_SECONDS = 10.0
"""Seconds between two warnings that are shown; each batch of an unavailable gateway causes one."""

_WARNING_LINE = re.compile(rf"\[[^]]*\] ({re.escape(UNAVAILABLE_WARNING)}.*)")
"""A line of the log that begins with the warning, after Celery's time, level and process.

Other lines may quote a server's reply, which may have any text.
"""


class GatewayWarnings(RunObserver):
    """An observer that shows warnings from the worker's log, since only they name the cause."""

    def __init__(self, worker_log: Path, log: Callable[[str], None]) -> None:
        self._worker_log = worker_log
        self._log = log
        self._position = 0
        self._due_at = 0.0

    def ticked(self, _snapshot: RunSnapshot) -> None:
        """Show the latest of the new warnings, unless one was shown a moment ago."""
        warnings = [match[1] for match in map(_WARNING_LINE.match, self._read_new_lines()) if match]
        now = time.monotonic()
        if warnings and now >= self._due_at:
            self._due_at = now + WARNING_INTERVAL_SECONDS
            self._log(warnings[-1])

    def _read_new_lines(self) -> list[str]:
        with suppress(FileNotFoundError), self._worker_log.open("rb") as log:
            if self._worker_log.stat().st_size < self._position:  # a restart renamed a large log
                self._position = 0
            log.seek(self._position)
            lines, end, _ = log.read().rpartition(b"\n")
            self._position += len(lines + end)
            return lines.decode(errors="replace").splitlines()
        return []
