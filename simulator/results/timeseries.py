"""A run over time: arrivals, transitions, latencies, queues and workers in each interval.

Counts and latencies come from the transitions and are exact; queues and workers are sampled.
Seconds are real ones since the start of the run.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.results.observations import Sample
from tracker.clock import to_seconds
from tracker.csv_cells import CsvWriter
from tracker.output.series import Column
from tracker.queries.durations.latencies import (
    MESSAGES_PER_CHUNK,
    QUEUED_TO_FINAL,
    QUEUED_TO_GATEWAY,
    IntegerArray,
    SpanTimes,
    TransitionTimes,
    percentile_rank,
)
from tracker.status import Status
from workers.queues import QUEUES

TIMESERIES_SPANS = (QUEUED_TO_GATEWAY, QUEUED_TO_FINAL)
"""Spans whose percentiles each interval has, of the messages that ended them in it."""

TIMESERIES_PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0}

SECOND, ARRIVALS, IN_FLIGHT = "second", "arrivals", "in_flight"
CPU, MEMORY = "workers_cpu", "workers_memory"

ORIGIN_COLUMNS = ("run", "seed", "state", "started_at")
"""Last columns of the CSV: the run, the same in every row, by their keys in `summary.json`."""


def ready(queue: str) -> str:
    """Return the column of a queue's waiting tasks."""
    return f"{queue}_ready"


def unacked(queue: str) -> str:
    """Return the column of a queue's tasks that workers hold."""
    return f"{queue}_unacked"


def latency_column(span: str, percentile: str) -> str:
    """Return the column of a percentile of a span."""
    return f"{span}_{percentile}"


@dataclass(frozen=True)
class Timeseries:
    """Columns of one length, with a row for each interval.

    Counts are sums over an interval, depths the largest value in it; `in_flight` is at its end.

    Attributes:
        interval: seconds.
    """

    interval: int
    columns: Mapping[str, Column]

    def as_csv(self, summary: Mapping[str, object]) -> str:
        """Return the columns as CSV with a header, followed by those of the run's summary."""
        out = io.StringIO()
        writer = CsvWriter(out, lineterminator="\n")
        writer.write_row((*self.columns, *ORIGIN_COLUMNS))
        origin = [summary[name] for name in ORIGIN_COLUMNS]
        for row in zip(*self.columns.values(), strict=True):
            writer.write_row((*map(_format_cell, row), *origin))
        return out.getvalue()


def _format_cell(value: float) -> str:
    if np.isnan(value):
        return ""
    return str(int(value)) if value == int(value) else f"{value:.6g}"


def parse_timeseries(text: str) -> Timeseries:
    """Parse the CSV of `Timeseries.as_csv`; raise ValueError for anything else."""
    header, *rows = csv.reader(io.StringIO(text))
    names = [name for name in header if name not in ORIGIN_COLUMNS]
    cells = [[float(cell) if cell else np.nan for cell in row[: len(names)]] for row in rows]
    table = np.array(cells, np.float64).reshape(-1, len(names))
    columns = dict(zip(names, table.T, strict=True))
    seconds = columns[SECOND]
    return Timeseries(int(seconds[1] - seconds[0]) if len(seconds) > 1 else 1, columns)


def make_timeseries(
    times: TransitionTimes, samples: Sequence[Sample], seconds: int, interval: int = 1
) -> Timeseries:
    """Make the time series of a run.

    Events after the end, reported by a gateway whose clock is wrong, count in the last row.

    Args:
        seconds: duration of the run.
        interval: seconds for each row.
    """
    rows = -(-seconds // interval)

    def counted(counts: NDArray[np.int64]) -> Column:
        row = np.minimum(np.arange(len(counts)) // interval, rows - 1)
        return np.asarray(np.bincount(row, weights=counts, minlength=rows), np.float64)

    entered = {status: counted(times.entered_per_second(status)) for status in Status}
    settled = counted(np.bincount(times.span_times(QUEUED_TO_FINAL).end_seconds))
    columns: dict[str, Column] = {
        SECOND: np.arange(rows, dtype=np.float64) * interval,
        ARRIVALS: entered[Status.QUEUED],
        **{
            status.slug: counts for status, counts in entered.items() if status is not Status.QUEUED
        },
        IN_FLIGHT: np.cumsum(entered[Status.QUEUED] - settled),
        **_sample_columns(samples, rows, interval),
    }
    for span in TIMESERIES_SPANS:
        for name, column in _percentile_columns(times.span_times(span), rows, interval).items():
            columns[latency_column(span.name, name)] = column
    return Timeseries(interval, columns)


def _sample_columns(samples: Sequence[Sample], rows: int, interval: int) -> dict[str, Column]:
    names = [column(queue) for queue in QUEUES for column in (ready, unacked)]
    columns = {name: np.full(rows, np.nan) for name in (*names, CPU, MEMORY)}
    for sample in samples:
        row = sample.second // interval
        if row >= rows:
            continue
        values: dict[str, float] = {}
        for queue, depth in (sample.depths or {}).items():
            values |= {ready(queue): depth.ready, unacked(queue): depth.unacked}
        if sample.usage is not None:
            values |= {CPU: sample.usage.cpu, MEMORY: sample.usage.memory}
        for name, value in values.items():
            columns[name][row] = np.fmax(columns[name][row], value)
    return columns


def _percentile_columns(timed: SpanTimes, rows: int, interval: int) -> dict[str, Column]:
    """Return the percentiles, in seconds, of the latencies that ended in each interval."""
    row = np.floor_divide(timed.end_seconds, interval, dtype=np.uint32)
    row = np.minimum(row, rows - 1, out=row).astype(np.min_scalar_type(rows - 1))
    counts = np.bincount(row, minlength=rows)
    starts = np.cumsum(counts) - counts
    took = _order_by_row(timed.durations, row, starts)
    filled = np.flatnonzero(counts)
    for durations in np.split(took, starts[filled][1:]):
        durations.sort()
    columns = {}
    for name, percent in TIMESERIES_PERCENTILES.items():
        ranks = percentile_rank(percent, counts[filled])
        column = np.full(rows, np.nan)
        column[filled] = to_seconds(took[starts[filled] + ranks - 1])
        columns[name] = column
    return columns


def _order_by_row(
    durations: IntegerArray, row: IntegerArray, starts: NDArray[np.int64]
) -> IntegerArray:
    """Return durations in the order of their rows, which start at `starts`.

    An index of all messages at once would take more memory than their durations.
    """
    ordered = np.empty_like(durations)
    next_place = starts.copy()
    for begin in range(0, len(row), MESSAGES_PER_CHUNK):
        chunk = row[begin : begin + MESSAGES_PER_CHUNK]
        order = np.argsort(chunk, kind="stable")
        counts = np.bincount(chunk, minlength=len(starts))
        places = np.arange(len(chunk)) + np.repeat(next_place - np.cumsum(counts) + counts, counts)
        ordered[places] = durations[begin + order]
        next_place += counts
    return ordered
