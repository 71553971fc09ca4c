"""Progress on stderr: bars on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from simulator.progress_lines import ProgressLines, format_seconds
from simulator.retry import Outage
from simulator.run.observers.base import RunObserver, RunSnapshot
from tracker.text import escape_control_characters, pluralize

if TYPE_CHECKING:
    from rich.progress import Progress

RATE_WINDOW_SECONDS = 10.0
"""The estimate of the time left uses the rate of the last seconds: arrivals come and go."""

STAGE_NAMES = ("Queued", "About to be sent", "Gateway", "Settled")


class ProgressDisplay(RunObserver):
    """A display of a run's progress. `ticked` shows the messages."""

    def log(self, text: str) -> None:
        """Print a line about an event."""

    def add_customers(self, count: int) -> None:
        """Count customers that were recorded."""

    def show_outage(self, outage: Outage) -> None:
        """Show why nothing moves: a service has been unavailable since a while."""


@contextmanager
def open_display(customer_count: int | None = None) -> Iterator[ProgressDisplay]:
    """Open the display that suits stderr.

    Args:
        customer_count: customers that the run records; None where an audience file tells it.
    """
    if not sys.stderr.isatty():
        yield _LineDisplay()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
    )

    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[estimate]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _BarDisplay(bars, customer_count)


class _BarDisplay(ProgressDisplay):
    def __init__(self, bars: "Progress", customer_count: int | None) -> None:
        self._bars = bars
        self._estimate = _TimeEstimate()
        self._customers_task = bars.add_task(
            "Customers", total=customer_count, visible=False, estimate=""
        )
        self._stage_tasks = [
            bars.add_task(name, total=None, visible=False, estimate="") for name in STAGE_NAMES
        ]

    def log(self, text: str) -> None:
        self._bars.console.print(
            escape_control_characters(text), markup=False, highlight=False, style="dim"
        )

    def add_customers(self, count: int) -> None:
        self._bars.update(self._customers_task, advance=count, visible=True)

    def show_outage(self, outage: Outage) -> None:
        self._bars.update(self._stage_tasks[-1], estimate=str(outage), visible=True)

    def ticked(self, snapshot: RunSnapshot) -> None:
        progress = snapshot.progress
        self._estimate.update(snapshot)
        estimate = " · ".join([*_describe_waiting(snapshot), self._estimate.text]).strip(" ·")
        self._bars.update(self._stage_tasks[-1], estimate=estimate)
        counts = (progress.recorded, progress.checked, progress.accepted, progress.settled)
        for task, count in zip(self._stage_tasks, counts, strict=True):
            self._bars.update(task, completed=count, total=snapshot.planned, visible=True)


class _LineDisplay(ProgressDisplay):
    def __init__(self) -> None:
        self._estimate = _TimeEstimate()
        self._lines = ProgressLines(self.log)
        self._count_customers = self._lines.counter("customers recorded")

    def log(self, text: str) -> None:
        print(escape_control_characters(text), file=sys.stderr, flush=True)

    def add_customers(self, count: int) -> None:
        self._count_customers(count)

    def show_outage(self, outage: Outage) -> None:
        self._lines.show(str(outage))

    def ticked(self, snapshot: RunSnapshot) -> None:
        self._estimate.update(snapshot)
        progress = snapshot.progress
        parts = [
            f"{self._estimate.elapsed_seconds:4.0f} s  queued {progress.recorded:,}",
            f"checked {progress.checked:,}",
            f"accepted {progress.accepted:,}",
            f"settled {progress.settled:,} of {snapshot.planned:,}",
        ]
        parts += _describe_waiting(snapshot)
        if self._estimate.text:
            parts.append(self._estimate.text)
        self._lines.show(" · ".join(parts))


def _describe_waiting(snapshot: RunSnapshot) -> list[str]:
    """Return texts about the messages that wait for a time, or for a person."""
    texts = [f"{snapshot.deferred:,} deferred"] if snapshot.deferred else []
    if snapshot.paused_campaigns:
        texts.append(f"paused: {', '.join(snapshot.paused_campaigns)}")
    return texts


class _TimeEstimate:
    """The rate of a run, and the time that it still takes."""

    def __init__(self) -> None:
        self._settled_samples: deque[tuple[float, int]] = deque()
        self._started_at = time.monotonic()
        self.text = ""

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the first snapshot."""
        return time.monotonic() - self._started_at

    def update(self, snapshot: RunSnapshot) -> None:
        """Add a snapshot, and derive the text from the latest ones."""
        progress = snapshot.progress
        rate = self._measure_rate(progress.settled)
        if progress.recorded == snapshot.planned and not progress.pending_messages:
            waiting = f"{pluralize(progress.awaiting_batches, 'batch')} waiting"
            is_waiting = progress.awaiting_batches > 0
            self.text = f"{waiting} for receipts or engagement" if is_waiting else ""
            return
        # While messages arrive, the rate is that of the arrivals, and only the backlog remains.
        arriving = snapshot.arrival_seconds_left
        expected = progress.recorded if arriving else snapshot.planned
        seconds_left = arriving + ((expected - progress.settled) / rate if rate else 0.0)
        parts = [f"{rate:,.0f}/s"] if rate else []
        if seconds_left:
            parts.append(f"about {format_seconds(seconds_left)} left")
        self.text = ", ".join(parts)

    def _measure_rate(self, settled: int) -> float:
        """Return the messages settled per second within RATE_WINDOW_SECONDS."""
        now = time.monotonic()
        samples = self._settled_samples
        if not samples:
            self._started_at = now
        samples.append((now, settled))
        while len(samples) > 2 and now - samples[0][0] > RATE_WINDOW_SECONDS:
            samples.popleft()
        since, settled_then = samples[0]
        return (settled - settled_then) / (now - since) if now > since else 0.0
