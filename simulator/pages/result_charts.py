"""The charts of a result."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import NamedTuple

import numpy as np

from simulator import figures
from simulator.results import timeseries
from simulator.results.result import RunResult
from simulator.results.timeseries import ARRIVALS, IN_FLIGHT, SECOND, TIMESERIES_SPANS
from tracker.output.charts import Chart, bar_chart, line_chart, point_chart
from tracker.output.series import Column
from tracker.queries.durations.latencies import SPANS, Latencies, Span
from tracker.queries.durations.workload import Workload
from tracker.queries.report import Report
from tracker.status import Reason, Status
from workers.queues import QUEUES

MIN_LATENCY_SECONDS = 1e-4
"""Shortest latency on the logarithmic scale; shorter ones are drawn there."""

CHARTED_PERCENTILES = ("p50", "p95", "p99", "max")
"""Percentiles of the latency chart; the points of more would overlap."""

MINUTE_SECONDS, HOUR_SECONDS = 60.0, 3600.0

MIN_UNIT_COUNT = 10
"""Fewest minutes or hours for which a time axis has that unit."""

ARRIVAL_PEAK_RATIO, ARRIVAL_LIMIT_RATIO = 4, 1.2
"""Arrivals above the first multiple of the highest other rate are cut off at the second multiple.
The arrivals of a blast would otherwise flatten the other curves."""

BYTES_PER_MEGABYTE = 1e6

NO_TASKS = "no task has changed anything"


class _CurveGroup(NamedTuple):
    """The curves of one chart.

    Attributes:
        empty_reason: shown instead of the chart if the curves have no values.
        y_limit: values above it are cut off.
    """

    empty_reason: str
    series: Mapping[str, Column]
    y_limit: float = inf


def time_charts(result: RunResult) -> list[Chart]:
    """Return the charts of a run over its time."""
    columns = result.curves.columns
    unit, unit_seconds = _choose_time_unit(columns[SECOND])
    x_title, x = f"{unit} since the start", columns[SECOND] / unit_seconds
    is_real_time = result.run.scenario.clock.speed == 1
    latency_unit = "seconds" if is_real_time else "seconds of simulated time"
    cores, megabytes = columns[timeseries.CPU], columns[timeseries.MEMORY] / BYTES_PER_MEGABYTE
    in_flight = _CurveGroup(
        "no message was in flight at the end of any second", {"in flight": columns[IN_FLIGHT]}
    )
    charts = [
        ("Arrivals and hand-overs", "messages a second", _rates(result)),
        ("Messages in flight", "messages", in_flight),
        *(
            (f"Latency, {span.label}", latency_unit, _latencies(columns, span))
            for span in TIMESERIES_SPANS
        ),
        ("Ready tasks by queue", "tasks", _depths(result, timeseries.ready)),
        ("Unacked tasks by queue", "tasks", _depths(result, timeseries.unacked)),
        ("CPU of the workers", "cores", _usage(result, figures.WORKERS_CPU, cores)),
        ("Memory of the workers", "MB", _usage(result, figures.WORKERS_MEMORY, megabytes)),
    ]
    return [
        line_chart(
            title,
            x_title,
            y_title,
            x,
            curves.series,
            empty_reason=curves.empty_reason,
            y_limit=curves.y_limit,
        )
        for title, y_title, curves in charts
    ]


def _choose_time_unit(seconds: Column) -> tuple[str, float]:
    """Return the unit of a time axis, and its length in seconds."""
    if seconds[-1] >= MIN_UNIT_COUNT * HOUR_SECONDS:
        return "hours", HOUR_SECONDS
    if seconds[-1] >= MIN_UNIT_COUNT * MINUTE_SECONDS:
        return "minutes", MINUTE_SECONDS
    return "seconds", 1.0


def _rates(result: RunResult) -> _CurveGroup:
    columns, interval = result.curves.columns, result.curves.interval
    arrivals = columns[ARRIVALS] / interval
    moves = {
        "accepted by the gateway": columns[Status.IN_GATEWAY.slug] / interval,
        "delivered": columns[Status.DELIVERED.slug] / interval,
    }
    highest = max(float(rate.max()) for rate in moves.values())
    is_blast = highest and arrivals.max() > ARRIVAL_PEAK_RATIO * highest
    return _CurveGroup(
        "no message arrived",
        {"arrivals": arrivals, **moves},
        y_limit=ARRIVAL_LIMIT_RATIO * highest if is_blast else inf,
    )


def _latencies(columns: Mapping[str, Column], span: Span) -> _CurveGroup:
    series = {
        percentile: columns[timeseries.latency_column(span.name, percentile)]
        for percentile in timeseries.TIMESERIES_PERCENTILES
    }
    return _CurveGroup("no message got this far", series)


def _depths(result: RunResult, column_name: Callable[[str], str]) -> _CurveGroup:
    depths = {queue: result.curves.columns[column_name(queue)] for queue in QUEUES}
    is_sampled = any(np.isfinite(depth).any() for depth in depths.values())
    return _CurveGroup(
        "every queue was empty at every sample"
        if is_sampled
        else _explain_missing_samples(result, f"queues.{QUEUES[0]}.ready"),
        {queue: depth for queue, depth in depths.items() if np.nansum(depth)},
    )


def _usage(result: RunResult, figure: str, column: Column) -> _CurveGroup:
    return _CurveGroup(_explain_missing_samples(result, figure), {"workers": column})


def _explain_missing_samples(result: RunResult, figure: str) -> str:
    return result.unmeasured_figures.get(figure, "no samples were taken")


def latency_chart(result: RunResult) -> Chart:
    """Return the chart of each stage's latency over all messages."""
    series = {
        percentile: _to_column([result.figures[f"{span.name}.{percentile}"] for span in SPANS])
        for percentile in CHARTED_PERCENTILES
    }
    return point_chart(
        "Latency by stage",
        "seconds, on a logarithmic scale",
        [span.label for span in SPANS],
        series,
        min_value=MIN_LATENCY_SECONDS,
        empty_reason="no message left its first status",
    )


def steps_chart(workloads: Sequence[Workload]) -> Chart:
    """Return the chart of a task's mean waiting and service time, by step."""
    waiting = [mean_seconds(workload.waiting) for workload in workloads]
    service = [mean_seconds(workload.service) for workload in workloads]
    return bar_chart(
        "Task time by step",
        "seconds, mean over all tasks",
        [workload.step.value for workload in workloads],
        {"waiting": _to_column(waiting), "service": _to_column(service)},
        empty_reason=NO_TASKS,
    )


def mean_seconds(latencies: Latencies) -> float | None:
    """Return the mean of some latencies in seconds, None if there are none."""
    return latencies.total_seconds / len(latencies) if len(latencies) else None


def reasons_chart(reports: Sequence[Report]) -> Chart:
    """Return the chart of Not Sent messages by reason, the most frequent first."""
    counts = {
        reason: sum(report.count_messages(Status.NOT_SENT, reason) for report in reports)
        for reason in Reason
    }
    frequent_first = sorted(Reason, key=lambda reason: -counts[reason])
    occurring = [reason for reason in frequent_first if counts[reason]]
    return bar_chart(
        "Not Sent by reason",
        "messages",
        [reason.title for reason in occurring],
        {"messages": _to_column([counts[reason] for reason in occurring])},
        empty_reason="every message passed the checks and was submitted to the gateway",
    )


def _to_column(values: Sequence[float | None]) -> Column:
    return np.array([np.nan if value is None else value for value in values], np.float64)
