"""The page of a comparison: what changed, and the curves of both runs in one picture each."""

from collections.abc import Iterator, Mapping

import numpy as np

from simulator.pages.comparison_text import (
    TABLE_HEADER,
    describe_noise,
    describe_verdict,
    find_caveats,
    format_change,
    is_shown_by_default,
)
from simulator.pages.render import render
from simulator.results import timeseries
from simulator.results.archive import StoredResult
from simulator.results.run_comparison import RunComparison
from simulator.results.timeseries import ARRIVALS, IN_FLIGHT, TIMESERIES_SPANS, Timeseries
from tracker.output.charts import Chart, Table, line_chart
from tracker.output.series import Column
from tracker.status import Status

CHARTED_PERCENTILE = "p95"
"""Of the percentiles over time, the one that is drawn: three of two runs would be too many."""

NO_VALUES = "neither run has any"


def contrast_page(contrast: RunComparison) -> str:
    """The page of a comparison, as HTML."""
    return render(
        "contrast.html",
        {
            "title": f"{contrast.before[0].name} and {contrast.after[0].name}",
            "contrast": contrast,
            "verdict": describe_verdict(contrast),
            "noise": describe_noise(contrast),
            "changes": Table(
                TABLE_HEADER,
                tuple(
                    format_change(each) for each in contrast.changes if is_shown_by_default(each)
                ),
            ),
            "everything": Table(
                TABLE_HEADER,
                tuple(
                    format_change(each) for each in contrast.changes if each.before or each.after
                ),
            ),
            "sides": [("before", contrast.before), ("after", contrast.after)],
            "reservations": [
                f"the run {side}: {each}"
                for side, runs in (("before", contrast.before), ("after", contrast.after))
                for each in find_caveats(runs[0])
            ],
            "charts": list(_charts(contrast.before[0], contrast.after[0])),
        },
    )


def _charts(before: StoredResult, after: StoredResult) -> Iterator[Chart]:
    sides = {"before": before.timeseries, "after": after.timeseries}
    for title, y_title, name in (
        ("Arrivals", "messages a second", ARRIVALS),
        ("Handed to the gateway", "messages a second", Status.IN_GATEWAY.slug),
        ("Messages in flight", "messages", IN_FLIGHT),
        *(
            (
                f"Latency, {span.label}, {CHARTED_PERCENTILE}",
                "seconds" if before.summary.speed == 1 else "seconds of the run's time",
                timeseries.latency_column(span.name, CHARTED_PERCENTILE),
            )
            for span in TIMESERIES_SPANS
        ),
        ("CPU of the workers", "cores", timeseries.CPU),
    ):
        x, series = _align_columns(sides, name)
        yield line_chart(
            title, "seconds since the start", y_title, x, series, empty_reason=NO_VALUES
        )


def _align_columns(sides: Mapping[str, Timeseries], name: str) -> tuple[Column, dict[str, Column]]:
    """A column of both series, the shorter one filled up with nothing."""
    columns = {side: series.columns.get(name, np.zeros(0)) for side, series in sides.items()}
    rows = max(1, *(len(column) for column in columns.values()))
    filled = {
        side: np.concatenate([column, np.full(rows - len(column), np.nan)])
        for side, column in columns.items()
    }
    return np.arange(rows, dtype=np.float64), filled
