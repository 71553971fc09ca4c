"""The page of a run comparison: the figures, and the curves of both runs in one chart each."""

from collections.abc import Iterator, Mapping

import numpy as np

from simulator.pages.comparison_text import (
    TABLE_HEADER,
    describe_noise,
    describe_side,
    describe_uncertainty,
    describe_verdict,
    find_caveats,
    find_pair_caveats,
    format_change,
    is_shown_by_default,
)
from simulator.pages.render import render_template
from simulator.results import timeseries
from simulator.results.archive.comparison import RunComparison
from simulator.results.archive.store import StoredResult
from simulator.results.timeseries import ARRIVALS, IN_FLIGHT, TIMESERIES_SPANS, Timeseries
from tracker.output.charts import Chart, Table, draw_charts, line_chart
from tracker.output.series import Column
from tracker.status import Status

CHARTED_PERCENTILE = "p95"
"""The percentile whose curves are drawn; three percentiles of two runs would be too many lines."""

NO_VALUES = "neither run has values"


def render_comparison_page(comparison: RunComparison) -> str:
    """Return the page of a run comparison, as HTML."""
    sides = [("before", comparison.before), ("after", comparison.after)]
    default_changes = [change for change in comparison.changes if is_shown_by_default(change)]
    all_changes = [change for change in comparison.changes if change.before or change.after]
    return render_template(
        "comparison.html",
        {
            "title": f"{comparison.before[0].name} and {comparison.after[0].name}",
            "comparison": comparison,
            "verdict": describe_verdict(comparison),
            "noise": ". ".join((describe_noise(comparison), *describe_uncertainty(comparison))),
            "changes": Table(TABLE_HEADER, tuple(map(format_change, default_changes))),
            "all_figures": Table(TABLE_HEADER, tuple(map(format_change, all_changes))),
            "sides": {side: describe_side(runs) for side, runs in sides},
            "caveats": [
                *(
                    f"the run {side}: {caveat}"
                    for side, runs in sides
                    for caveat in find_caveats(runs[0])
                ),
                *find_pair_caveats(comparison),
            ],
            "charts": draw_charts(list(_make_charts(comparison.before[0], comparison.after[0]))),
        },
    )


def _make_charts(before: StoredResult, after: StoredResult) -> Iterator[Chart]:
    is_real_time = before.summary.speed == after.summary.speed == 1
    latency_unit = "seconds" if is_real_time else "seconds of simulated time"
    latency_charts = [
        (
            f"Latency, {span.label}, {CHARTED_PERCENTILE}",
            latency_unit,
            timeseries.latency_column(span.name, CHARTED_PERCENTILE),
        )
        for span in TIMESERIES_SPANS
    ]
    sides = {"before": before.timeseries, "after": after.timeseries}
    for title, y_title, name in (
        ("Arrivals", "messages a second", ARRIVALS),
        ("Hand-overs to the gateway", "messages a second", Status.IN_GATEWAY.slug),
        ("Messages in flight", "messages", IN_FLIGHT),
        *latency_charts,
        ("CPU of the workers", "cores", timeseries.CPU),
    ):
        x, series = _align_columns(sides, name)
        yield line_chart(
            title, "seconds since the start", y_title, x, series, empty_reason=NO_VALUES
        )


def _align_columns(sides: Mapping[str, Timeseries], name: str) -> tuple[Column, dict[str, Column]]:
    """Return the seconds, and one column of both time series, the shorter one padded with NaN."""
    columns = {side: series.columns.get(name, np.zeros(0)) for side, series in sides.items()}
    rows = max(1, *(len(column) for column in columns.values()))
    padded = {
        side: np.concatenate([column, np.full(rows - len(column), np.nan)])
        for side, column in columns.items()
    }
    return np.arange(rows, dtype=np.float64), padded
