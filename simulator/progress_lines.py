"""Progress of long work as lines of text, from time to time."""

import time
from collections.abc import Callable

INTERVAL_SECONDS = 2.0
"""Real seconds between two lines."""


class ProgressLines:
    """A progress display that prints a line if the last one is some seconds old."""

    def __init__(self, print_line: Callable[[str], object]) -> None:
        self._print_line = print_line
        self._printed_at = time.monotonic()

    def show(self, line: str) -> None:
        """Print a line, unless one was printed a moment ago."""
        now = time.monotonic()
        if now - self._printed_at >= INTERVAL_SECONDS:
            self._printed_at = now
            self._print_line(line)

    def counter(self, label: str) -> Callable[[int], None]:
        """Return a function that adds a count and shows the total before a label."""
        total = 0

        def add(count: int) -> None:
            nonlocal total
            total += count
            self.show(f"{total:,} {label}")

        return add


def format_seconds(seconds: float) -> str:
    """Return a duration in its two largest units, such as "2 min 5 s"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    return f"{seconds} s"
