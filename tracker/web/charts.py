"""The charts of a campaign's last minutes and of its days, and their cache."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta, tzinfo
from itertools import pairwise
from threading import Lock
from typing import NamedTuple

import numpy as np

from tracker.monitoring import QueueDepth
from tracker.output.charts import Chart, ClockAxis, Table, draw_charts, line_chart
from tracker.output.report_formats import DAY_COLUMNS, day_rows
from tracker.output.report_lines import ENGAGEMENT_LABELS, describe_rollup, has_engagement
from tracker.output.series import Column
from tracker.queries.report import Report
from tracker.web.live import ProgressSample, QueueSample

MAX_GAP_SECONDS = 5.0
"""Seconds between two samples after which what happened between them is unknown."""

CHART_MAX_AGE_SECONDS = 5.0
"""Seconds for which a rendered chart is served again; to render one takes about 20 ms."""

MAX_CACHED_CHARTS = 100


def make_live_charts(
    progress: Sequence[ProgressSample],
    queues: Sequence[QueueSample],
    report: Report,
    zone: tzinfo,
    viewer_zone: tzinfo,
) -> list[Chart]:
    """Return the charts of throughput, queue depths and engagement by day.

    Args:
        zone: the zone of the days, in which the time of the last rollup is shown.
        viewer_zone: the zone of the clock below the other charts, which share its range.
    """
    times = [sample.at for sample in progress] + [sample.at for sample in queues]
    axis = _TimeAxis.for_range(min(times, default=0.0), max(times, default=0.0), viewer_zone)
    charts = [_throughput_chart(progress, axis), _queue_chart(queues, axis)]
    if has_engagement(report):
        charts.append(_days_chart(report, zone))
    return draw_charts(charts)


def _days_chart(report: Report, zone: tzinfo) -> Chart:
    """Return the engagement of a campaign by day; its table has a row of totals."""
    rollup = describe_rollup(report, zone)
    days = [date.fromisoformat(day) for day in report.engagement_days]
    first = min(days, default=None)
    series = {
        label: np.array([counts[kind] for counts in report.engagement_days.values()], np.float64)
        for kind, label in ENGAGEMENT_LABELS.items()
    }
    chart = line_chart(
        "Engagement by day",
        f"days since {first}",
        "recipients",
        np.array([(day - first).days for day in days if first is not None], np.float64),
        series,
        empty_reason=rollup if report.engagement_as_of is None else f"no engagement, {rollup}",
    )
    return replace(chart, note=rollup, table=Table(DAY_COLUMNS, tuple(day_rows(report))))


class _TimeAxis(NamedTuple):
    """The time axis that the charts share, in the viewer's zone.

    Attributes:
        begin: time of the first sample, in seconds since 1970; `end` is that of the last.
        offset: seconds by which the zone is ahead of UTC.
    """

    begin: float
    end: float
    offset: float
    title: str

    @classmethod
    def for_range(cls, begin: float, end: float, zone: tzinfo) -> "_TimeAxis":
        at = datetime.fromtimestamp(end, zone)
        offset = at.utcoffset() or timedelta()
        name = getattr(zone, "key", None) or at.tzname()
        return cls(begin, max(end, begin + 1), offset.total_seconds(), f"time of day ({name})")

    def positions(self, times: Iterable[float]) -> Column:
        return np.array([*times], np.float64) + self.offset

    def clock(self, step: str) -> ClockAxis:
        return ClockAxis(begin=self.begin + self.offset, end=self.end + self.offset, step=step)


def _throughput_chart(samples: Sequence[ProgressSample], axis: _TimeAxis) -> Chart:
    """Return the throughput; each value holds for the time from the sample before it.

    The line is interrupted where numbers changed and nothing was read meanwhile: nobody knows when.
    """
    pairs = list(pairwise(samples))
    seconds = np.array([after.at - before.at for before, after in pairs], np.float64)
    has_changed = np.array([after[1:] != before[1:] for before, after in pairs], bool)
    is_unknown = has_changed & (seconds > MAX_GAP_SECONDS)
    rates = {
        label: np.array([after[place] - before[place] for before, after in pairs]) / seconds
        for label, place in (("to the gateway", 1), ("Not Sent", 2))
    }
    series = {label: np.where(is_unknown, np.nan, rate) for label, rate in rates.items()}
    return line_chart(
        "Throughput",
        axis.title,
        "messages a second",
        axis.positions(after.at for _, after in pairs),
        series,
        empty_reason="no message changed its status in the last ten minutes",
        clock=axis.clock("step-before"),
    )


def _queue_chart(samples: Sequence[QueueSample], axis: _TimeAxis) -> Chart:
    """Return the queue depths; the lines are interrupted while the broker was unavailable."""
    names = samples[-1].depths if samples else ()
    rows: list[tuple[float, Mapping[str, QueueDepth] | None]] = []
    rows += [(sample.at, sample.depths) for sample in samples[:1]]
    for before, after in pairwise(samples):
        if after.at - before.at > MAX_GAP_SECONDS:
            rows.append((before.at + 1, None))
        rows.append((after.at, after.depths))
    series = {
        name.replace("_", " "): np.array(
            [np.nan if depths is None else sum(depths[name]) for _, depths in rows], np.float64
        )
        for name in names
    }
    return line_chart(
        "Queue depths, ready and unacked",
        axis.title,
        "tasks",
        axis.positions(at for at, _ in rows),
        series,
        empty_reason="all queues have been empty" if samples else "queue depths are unavailable",
        clock=axis.clock("step-after"),
    )


class ChartCache:
    """A thread-safe cache of rendered charts: one thread renders while the others wait."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._lock = now, Lock()
        self._charts: dict[tuple[int, str], tuple[float, str]] = {}

    def get(self, campaign_id: int, zone: str, render: Callable[[], str]) -> str:
        """Return the charts of a campaign in a zone, at most CHART_MAX_AGE_SECONDS old."""
        key = campaign_id, zone
        with self._lock:
            rendered_at, charts = self._charts.get(key, (0.0, ""))
            if not charts or self._now() - rendered_at >= CHART_MAX_AGE_SECONDS:
                charts = render()
                self._charts.pop(key, None)
                self._charts[key] = self._now(), charts
                while len(self._charts) > MAX_CACHED_CHARTS:
                    del self._charts[next(iter(self._charts))]
            return charts
