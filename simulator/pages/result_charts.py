"""The charts of a result."""

from collections.abc import Callable, Mapping, Sequence
from math import inf

import numpy as np

from simulator import figures
from simulator.results import timeseries
from simulator.results.result import RunResult
from simulator.results.timeseries import ARRIVALS, IN_FLIGHT, SECOND, TIMESERIES_SPANS
from tracker.output.charts import Chart, bar_chart, line_chart, point_chart
from tracker.output.series import Column
from tracker.queries.latencies import SPANS, Latencies, Span
from tracker.queries.report import Report
from tracker.queries.workload import Workload
from tracker.status import Reason, Status
from workers.queues import QUEUES

MIN_LATENCY_SECONDS = 1e-4
"""Seconds: what takes less is nothing on the scale of a run."""

CHARTED_PERCENTILES = ("p50", "p95", "p99", "max")
"""Percentiles that are drawn; more of them would lie on each other."""

MINUTE, HOUR = 60.0, 3600.0
MIN_UNIT_COUNT = 10
"""Minutes and hours are counted once there are so many of them."""

NO_SAMPLES = "no samples were taken"


def time_charts(result: RunResult) -> list[Chart]:
    """What happened in a run, second by second."""
    columns = result.curves.columns
    unit, seconds = _choose_time_unit(columns[SECOND])
    x_title, x = f"{unit} since the start", columns[SECOND] / seconds

    def chart(
        title: str,
        y_title: str,
        empty_reason: str,
        series: Mapping[str, Column],
        y_limit: float = inf,
    ) -> Chart:
        return line_chart(
            title, x_title, y_title, x, series, empty_reason=empty_reason, y_limit=y_limit
        )

    in_flight = {"in flight": columns[IN_FLIGHT]}
    return [
        chart("Arrivals and hand-overs", "messages a second", *_rates(result)),
        chart("Messages in flight", "messages", "no message was under way", in_flight),
        *(
            chart(
                f"Latency, {span.label}",
                "seconds" if result.run.scenario.clock.speed == 1 else "seconds of the run's time",
                "no message came so far",
                _latencies(columns, span),
            )
            for span in TIMESERIES_SPANS
        ),
        chart("Tasks that wait, by queue", "tasks", *_depths(columns, timeseries.ready)),
        chart("Tasks that workers hold, by queue", "tasks", *_depths(columns, timeseries.unacked)),
        chart("CPU of the workers", "cores", *_usage(result, figures.WORKERS_CPU, timeseries.CPU)),
        chart(
            "Memory of the workers",
            "MB",
            *_usage(result, figures.WORKERS_MEMORY, timeseries.MEMORY),
        ),
    ]


def _choose_time_unit(seconds: Column) -> tuple[str, float]:
    """The unit in which so many seconds are read best, and its length in seconds."""
    if seconds[-1] >= MIN_UNIT_COUNT * HOUR:
        return "hours", HOUR
    return ("minutes", MINUTE) if seconds[-1] >= MIN_UNIT_COUNT * MINUTE else ("seconds", 1.0)


def _rates(result: RunResult) -> tuple[str, dict[str, Column], float]:
    """Messages a second; why there are none; and where to cut arrivals off: those of a blast would
    make all else look flat."""
    columns, interval = result.curves.columns, result.curves.interval
    moved = {
        "handed to the gateway": columns[Status.IN_GATEWAY.slug] / interval,
        "delivered": columns[Status.DELIVERED.slug] / interval,
    }
    arrivals = columns[ARRIVALS] / interval
    highest = max(float(each.max()) for each in moved.values())
    blast = highest and arrivals.max() > ARRIVAL_PEAK_RATIO * highest
    series = {"arrivals": arrivals, **moved}
    return "no message arrived", series, ARRIVAL_LIMIT_RATIO * highest if blast else inf


ARRIVAL_PEAK_RATIO, ARRIVAL_LIMIT_RATIO = 4, 1.2
"""Arrivals are cut off if they are so many times the rest, at so many times the rest."""


def _latencies(columns: Mapping[str, Column], span: Span) -> dict[str, Column]:
    return {
        percentile: columns[timeseries.latency_column(span.name, percentile)]
        for percentile in timeseries.PERCENTILES
    }


def _depths(
    columns: Mapping[str, Column], name: Callable[[str], str]
) -> tuple[str, dict[str, Column]]:
    """Of each queue in which anything was ever seen; and why there is none."""
    every = {queue: columns[name(queue)] for queue in QUEUES}
    seen = any(np.isfinite(depth).any() for depth in every.values())
    why = "every queue was empty when it was looked at" if seen else NO_SAMPLES
    return why, {queue: depth for queue, depth in every.items() if np.nansum(depth)}


def _usage(result: RunResult, figure: str, name: str) -> tuple[str, dict[str, Column]]:
    """What the workers use, of memory in megabytes; and why that is not known."""
    why = result.conditions.unavailable_figures.get(figure, NO_SAMPLES)
    column = result.curves.columns[name]
    return why, {"workers": column / 1e6 if name == timeseries.MEMORY else column}


def latency_chart(result: RunResult) -> Chart:
    """How long each stage took, of all messages."""
    found = {
        percentile: _to_column([result.figures[f"{span.name}.{percentile}"] for span in SPANS])
        for percentile in CHARTED_PERCENTILES
    }
    return point_chart(
        "Latency by stage",
        "seconds, on a logarithmic scale",
        [span.label for span in SPANS],
        found,
        min_value=MIN_LATENCY_SECONDS,
        empty_reason="no message came further than its first status",
    )


def steps_chart(workloads: Sequence[Workload]) -> Chart:
    """What a task of each step spends its time on."""
    parts = {
        "waiting": _to_column([mean_seconds(each.waiting) for each in workloads]),
        "service": _to_column([mean_seconds(each.service) for each in workloads]),
    }
    steps = [each.step.value for each in workloads]
    return bar_chart(
        "Time of a task, by step",
        "seconds, the mean of all tasks",
        steps,
        parts,
        empty_reason=NO_TASKS,
    )


NO_TASKS = "no task has changed anything"


def mean_seconds(latencies: Latencies) -> float | None:
    return latencies.seconds / len(latencies) if len(latencies) else None


def reasons_chart(reports: Sequence[Report]) -> Chart:
    """Why messages of all campaigns were Not Sent; the most frequent reason first."""
    counts = {
        reason: sum(report.having(Status.NOT_SENT, reason) for report in reports)
        for reason in Reason
    }
    occurring = sorted((each for each in Reason if counts[each]), key=lambda each: -counts[each])
    return bar_chart(
        "Not Sent by reason",
        "messages",
        [reason.title for reason in occurring],
        {"messages": _to_column([counts[reason] for reason in occurring])},
        empty_reason="every message passed the checks and could be handed over",
    )


def _to_column(values: Sequence[float | None]) -> Column:
    return np.array([np.nan if each is None else each for each in values], np.float64)
