"""Progress, on stderr: bars on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
)

from tracker.queries.report import Report
from tracker.status import Status
from tracker.text import escape_control_characters

PLAIN_LINE_INTERVAL_SECONDS = 2.0
"""Seconds between two plain lines."""


@dataclass(frozen=True)
class RunProgress:
    """How many messages are past each stage."""

    recorded: int
    checked: int
    accepted: int
    settled: int
    in_work: int = 0
    """Messages that somebody has yet to do something with."""
    expecting: int = 0
    """Batches of which the gateway has more to tell: receipts, or what recipients do."""

    @classmethod
    def from_reports(cls, reports: Sequence[Report], expecting: int = 0) -> "RunProgress":
        recorded = sum(report.audience for report in reports)
        checked = recorded - sum(report.having(Status.QUEUED) for report in reports)
        ready = sum(report.having(Status.ABOUT_TO_BE_SENT) for report in reports)
        settled = sum(report.settled for report in reports)
        in_work = sum(report.in_work for report in reports)
        return cls(recorded, checked, checked - ready, settled, in_work, expecting)

    def is_complete(self, total: int) -> bool:
        """Whether ``total`` messages are recorded, and nothing more will happen to any."""
        return self.recorded == total and not self.in_work and not self.expecting


class ProgressDisplay(Protocol):
    """Where progress is shown."""

    def log(self, text: str) -> None:
        """A line about what is going on."""

    def customers(self, more: int) -> None:
        """``more`` customers were recorded."""

    def update_messages(self, standing: RunProgress, total: int, arriving: float = 0.0) -> None:
        """The messages, ``total`` in the end, are this far; the last ones have yet to arrive for
        so many seconds."""


@contextmanager
def open_display(customers: int | None) -> Iterator[ProgressDisplay]:
    """A display for a run of so many customers; None where their number is not known yet."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _LineDisplay()
        return
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[outlook]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield _BarDisplay(bars, customers)


class _BarDisplay:
    def __init__(self, bars: Progress, customers: int | None) -> None:
        self._bars = bars
        self._estimate = _TimeEstimate()
        self._customers = bars.add_task("Customers", total=customers, outlook="")
        self._stage_tasks = [
            bars.add_task(name, total=None, visible=False, outlook="")
            for name in ("Queued", "About to be sent", "Gateway", "Settled")
        ]

    def log(self, text: str) -> None:
        self._bars.console.print(
            escape_control_characters(text), markup=False, highlight=False, style="dim"
        )

    def customers(self, more: int) -> None:
        self._bars.advance(self._customers, more)

    def update_messages(self, standing: RunProgress, total: int, arriving: float = 0.0) -> None:
        self._bars.update(self._customers, visible=False)
        self._estimate.update(standing, total, arriving)
        self._bars.update(self._stage_tasks[-1], outlook=self._estimate.text)
        past = (standing.recorded, standing.checked, standing.accepted, standing.settled)
        for task, count in zip(self._stage_tasks, past, strict=True):
            self._bars.update(task, completed=count, total=total, visible=True)


class _LineDisplay:
    def __init__(self) -> None:
        self._customers = 0
        self._estimate = _TimeEstimate()
        self._printed_at = time.monotonic()

    def log(self, text: str) -> None:
        print(escape_control_characters(text), file=sys.stderr, flush=True)

    def customers(self, more: int) -> None:
        self._customers += more
        if self._is_due():
            self.log(f"{self._customers:,} customers recorded")

    def update_messages(self, standing: RunProgress, total: int, arriving: float = 0.0) -> None:
        self._estimate.update(standing, total, arriving)
        if self._is_due():
            self.log(
                f"{self._estimate.seconds:4.0f} s  queued {standing.recorded:,}"
                f" · checked {standing.checked:,} · handed over {standing.accepted:,}"
                f" · settled {standing.settled:,} of {total:,}"
                + (f" ({self._estimate.text})" if self._estimate.text else "")
            )

    def _is_due(self) -> bool:
        due = time.monotonic() - self._printed_at >= PLAIN_LINE_INTERVAL_SECONDS
        if due:
            self._printed_at = time.monotonic()
        return due


class _TimeEstimate:
    """How fast a run is, and how long it will still take.

    At the rate of the last seconds, not of the whole run: arrivals may come and go. What has yet to
    arrive can't settle before.
    """

    def __init__(self) -> None:
        self._settled_samples: deque[tuple[float, int]] = deque()
        self._started_at = time.monotonic()
        self.text = ""

    @property
    def seconds(self) -> float:
        """Since the first look."""
        return time.monotonic() - self._started_at

    def update(self, standing: RunProgress, total: int, arriving: float) -> None:
        """Take in how far the messages are."""
        now = time.monotonic()
        if not self._settled_samples:
            self._started_at = now
        self._settled_samples.append((now, standing.settled))
        while (
            len(self._settled_samples) > 2
            and now - self._settled_samples[0][0] > RATE_WINDOW_SECONDS
        ):
            self._settled_samples.popleft()
        if standing.recorded == total and not standing.in_work:
            self.text = (
                f"waiting for receipts and engagement of {standing.expecting:,} batches"
                if standing.expecting
                else ""
            )
            return
        since, settled = self._settled_samples[0]
        rate = (standing.settled - settled) / (now - since) if now > since else 0.0
        # While messages still arrive, the rate is theirs: only what waits has to be worked off.
        to_do = standing.recorded - standing.settled if arriving else total - standing.settled
        left = arriving + (to_do / rate if rate else 0.0)
        parts = [f"{rate:,.0f}/s"] if rate else []
        parts += [f"about {_format_duration(left)} left"] if left else []
        self.text = ", ".join(parts)


RATE_WINDOW_SECONDS = 10.0
"""Seconds whose rate is taken for that of the seconds to come."""


def _format_duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
