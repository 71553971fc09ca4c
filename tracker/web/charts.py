"""The charts of a campaign's last minutes and of its days, and their cache."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date, tzinfo
from itertools import pairwise
from threading import Lock
from typing import NamedTuple

import numpy as np

from tracker.output.charts import Chart, Table, draw_charts, line_chart
from tracker.output.report_formats import DAY_COLUMNS, day_rows
from tracker.output.report_lines import ENGAGEMENT_LABELS, describe_rollup, has_engagement
from tracker.output.series import Column
from tracker.queries.report import Report
from tracker.web.live import ProgressSample, QueueSample

SECONDS_AXIS_LIMIT = 120.0
"""Longest history, in seconds, whose time axis counts seconds; longer ones count minutes."""

CHART_MAX_AGE_SECONDS = 5.0
"""Seconds for which a rendered chart is served again; to render one takes about 20 ms."""

MAX_CACHED_CHARTS = 100


def make_live_charts(
    progress: Sequence[ProgressSample],
    queues: Sequence[QueueSample],
    report: Report,
    zone: tzinfo,
) -> list[Chart]:
    """Return the charts of throughput, queue depths and engagement by day.

    The time of the last rollup is shown in `zone`.
    """
    times = [sample.at for sample in progress] + [sample.at for sample in queues]
    axis = _TimeAxis.for_range(min(times, default=0.0), max(times, default=0.0))
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
    """A time axis that ends at zero, the latest sample.

    Attributes:
        end: time of the latest sample, in seconds since 1970.
        unit: seconds of one unit of the axis.
    """

    end: float
    unit: float
    title: str

    @classmethod
    def for_range(cls, begin: float, end: float) -> "_TimeAxis":
        if end - begin < SECONDS_AXIS_LIMIT:
            return cls(end, 1, "seconds (0 is now)")
        return cls(end, 60, "minutes (0 is now)")

    def positions(self, times: Iterable[float]) -> Column:
        return (np.array([*times]) - self.end) / self.unit


def _throughput_chart(samples: Sequence[ProgressSample], axis: _TimeAxis) -> Chart:
    pairs = list(pairwise(samples))
    seconds = np.array([after.at - before.at for before, after in pairs])
    sent = np.array([after.sent - before.sent for before, after in pairs])
    not_sent = np.array([after.not_sent - before.not_sent for before, after in pairs])
    return line_chart(
        "Throughput",
        axis.title,
        "messages a second",
        axis.positions(after.at for _, after in pairs),
        {"to the gateway": sent / seconds, "Not Sent": not_sent / seconds},
        empty_reason="no message changed its status in the last ten minutes",
    )


def _queue_chart(samples: Sequence[QueueSample], axis: _TimeAxis) -> Chart:
    names = samples[-1].depths if samples else ()
    series = {
        name.replace("_", " "): np.array(
            [sum(sample.depths[name]) for sample in samples], np.float64
        )
        for name in names
    }
    return line_chart(
        "Queue depths, ready and unacked",
        axis.title,
        "tasks",
        axis.positions(sample.at for sample in samples),
        series,
        empty_reason="all queues have been empty" if samples else "queue depths are unavailable",
    )


class ChartCache:
    """A thread-safe cache of rendered charts: one thread renders while the others wait."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._lock = now, Lock()
        self._charts: dict[int, tuple[float, str]] = {}

    def get(self, campaign_id: int, render: Callable[[], str]) -> str:
        """Return the charts of a campaign, at most CHART_MAX_AGE_SECONDS old."""
        with self._lock:
            rendered_at, charts = self._charts.get(campaign_id, (0.0, ""))
            if not charts or self._now() - rendered_at >= CHART_MAX_AGE_SECONDS:
                charts = render()
                self._charts.pop(campaign_id, None)
                self._charts[campaign_id] = self._now(), charts
                while len(self._charts) > MAX_CACHED_CHARTS:
                    del self._charts[next(iter(self._charts))]
            return charts
