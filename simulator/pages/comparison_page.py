"""The page of a comparison: what changed, and the curves of both runs in one picture each."""

from collections.abc import Iterator, Mapping

import numpy as np

from simulator.pages.comparison_text import (
    HEADER,
    cells,
    is_worth_showing,
    noise_words,
    reservations,
    verdict_words,
)
from simulator.pages.render import render
from simulator.results import timeseries
from simulator.results.archive import Kept
from simulator.results.run_comparison import Contrast
from simulator.results.timeseries import ARRIVALS, IN_FLIGHT, OVER_TIME, Timeseries
from tracker.output.charts import Chart, Table, line_chart
from tracker.output.series import Column
from tracker.status import Status

PERCENTILE = "p95"
"""Of the percentiles over time, the one that is drawn: three of two runs would be too many."""

NOTHING = "neither run has any"


def contrast_page(contrast: Contrast) -> str:
    """The page of a comparison, as HTML."""
    return render(
        "contrast.html",
        {
            "title": f"{contrast.before[0].name} and {contrast.after[0].name}",
            "contrast": contrast,
            "verdict": verdict_words(contrast),
            "noise": noise_words(contrast),
            "changes": Table(
                HEADER,
                tuple(cells(each) for each in contrast.changes if is_worth_showing(each)),
            ),
            "everything": Table(
                HEADER,
                tuple(cells(each) for each in contrast.changes if each.before or each.after),
            ),
            "sides": [("before", contrast.before), ("after", contrast.after)],
            "reservations": [
                f"the run {side}: {each}"
                for side, runs in (("before", contrast.before), ("after", contrast.after))
                for each in reservations(runs[0])
            ],
            "charts": list(_charts(contrast.before[0], contrast.after[0])),
        },
    )


def _charts(before: Kept, after: Kept) -> Iterator[Chart]:
    sides = {"before": before.timeseries, "after": after.timeseries}
    for title, y_title, name in (
        ("Arrivals", "messages a second", ARRIVALS),
        ("Handed to the gateway", "messages a second", Status.IN_GATEWAY.slug),
        ("Messages in flight", "messages", IN_FLIGHT),
        *(
            (
                f"Latency, {span.label}, {PERCENTILE}",
                "seconds" if before.summary.speed == 1 else "seconds of the run's time",
                timeseries.latency(span.name, PERCENTILE),
            )
            for span in OVER_TIME
        ),
        ("CPU of the workers", "cores", timeseries.CPU),
    ):
        x, series = _side_by_side(sides, name)
        yield line_chart(title, "seconds since the start", y_title, x, series, nothing=NOTHING)


def _side_by_side(sides: Mapping[str, Timeseries], name: str) -> tuple[Column, dict[str, Column]]:
    """A column of both series, the shorter one filled up with nothing."""
    columns = {side: series.columns.get(name, np.zeros(0)) for side, series in sides.items()}
    rows = max(1, *(len(column) for column in columns.values()))
    filled = {
        side: np.concatenate([column, np.full(rows - len(column), np.nan)])
        for side, column in columns.items()
    }
    return np.arange(rows, dtype=np.float64), filled
