"""Charts for a page: an SVG that needs no script, a legend, and the data as a table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import ceil, floor, inf, log10
from typing import Any

import numpy as np
from markupsafe import Markup

from tracker.output import svg
from tracker.output.series import (
    Column,
    Series,
    downsample,
    format_column,
    has_only_integers,
    has_values,
    isolated_points,
    max_value,
    rows_per_bucket,
)

MAX_CHART_POINTS, MAX_TABLE_ROWS = 300, 60
"""Rows of a series above which its chart, and its table, have the highest value of each bucket."""

CLOCK_TICK_SECONDS = (1, 5, 10, 30, 60, 120, 300, 600)
MAX_CLOCK_TICKS = 6

TOTAL_LABEL_HEADROOM = 1.15
"""Length of a bar chart's axis, in longest bars; the rest is room for the totals."""


@dataclass(frozen=True)
class LegendItem:
    """The label of a series with a sample of its style."""

    label: str
    swatch: Markup


@dataclass(frozen=True)
class Table:
    """Data as text; the first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart with its title, its legend and its data.

    Attributes:
        drawing: specification of the SVG; None without values.
        empty_reason: why the chart has no SVG.
        note: what the SVG leaves out.
        svg: the SVG, once `draw_charts` has drawn it.
    """

    title: str
    drawing: svg.Drawing | None
    keys: tuple[LegendItem, ...]
    table: Table
    empty_reason: str
    note: str = ""
    svg: Markup | None = None


@dataclass(frozen=True, kw_only=True)
class ClockAxis:
    """An axis of the time of day; `x` is then in seconds of local time since 1970.

    Attributes:
        begin: the left end of the axis.
        end: the right end.
        step: "step-before" if a value holds for the time before it, "step-after" for that after it.
    """

    begin: float
    end: float
    step: str

    @property
    def tick_seconds(self) -> int:
        """The seconds between two ticks."""
        length = self.end - self.begin
        return next((step for step in CLOCK_TICK_SECONDS if length / step <= MAX_CLOCK_TICKS), 3600)

    def format(self, x: Column) -> list[str]:
        """Return times as HH:MM:SS, 24 hours a day."""
        return [f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}" for at in x.tolist()]


def draw_charts(
    charts: Sequence[Chart],
    draw_svgs: Callable[[Sequence[svg.Drawing]], Sequence[Markup]] = svg.draw_svgs,
) -> list[Chart]:
    """Return charts with their SVGs; `svg.draw_svgs_in_child` saves memory."""
    svgs = iter(draw_svgs([chart.drawing for chart in charts if chart.drawing is not None]))
    return [chart if chart.drawing is None else replace(chart, svg=next(svgs)) for chart in charts]


def line_chart(
    title: str,
    x_title: str,
    y_title: str,
    x: Column,
    series: Series,
    *,
    empty_reason: str,
    y_limit: float = inf,
    clock: ClockAxis | None = None,
) -> Chart:
    """Return a chart with a line for each series, on a scale that starts at zero.

    NaN interrupts a line, and values above `y_limit` are cut off. The values of `x` ascend.
    `empty_reason` is the text of a chart that has no line. With a clock, each value holds for a
    time, and is drawn as a step.
    """
    format_x = format_column if clock is None else clock.format
    table = _make_data_table(x_title, x, series, format_x)
    if not max_value(series):
        return Chart(title, None, (), table, empty_reason)
    x, series = downsample(x, series, MAX_CHART_POINTS)
    styles = svg.series_styles(len(series))
    top = min(max_value(series), y_limit)
    ticks = {"tickMinStep": 1} if has_only_integers(series) else {}
    encoding = {
        "x": _time_encoding(x_title, x) if clock is None else _clock_encoding(x_title, clock),
        "y": _linear_encoding("y", y_title, 0, top, nice=True) | {"axis": ticks},
        "color": _series_encoding([style.colour for style in styles]),
    }
    lines = {
        "data": {"values": _to_records(x.tolist(), series)},
        "mark": {
            "type": "line",
            "strokeWidth": 1.8,
            "strokeJoin": "round",
            "interpolate": "linear" if clock is None else clock.step,
        },
        "encoding": encoding
        | {"strokeDash": _series_encoding([list(style.dashes) for style in styles])},
    }
    spec = {
        "height": svg.CHART_HEIGHT,
        "autosize": {"type": "fit", "contains": "padding"},
        "layer": [lines, _make_dots(x, series) | {"encoding": encoding}],
    }
    drawing = svg.Drawing(spec, f"{title}: {y_title}, over {x_title}")
    keys = _make_legend(series, svg.line_swatches)
    return Chart(title, drawing, keys, table, empty_reason, _clipping_note(series, y_limit))


def _make_dots(x: Column, series: Series) -> dict[str, Any]:
    """Return the layer of the points that no line connects to others."""
    isolated = {label: isolated_points(values) for label, values in series.items()}
    points = _to_records(x.tolist(), isolated)
    return {
        "data": {"values": [point for point in points if point["y"] is not None]},
        "mark": {"type": "point", "filled": True, "size": 22, "opacity": 1},
    }


def _time_encoding(title: str, x: Column) -> dict[str, Any]:
    last = float(x[-1] if len(x) > 1 else x[0] + 1)
    ticks = {"tickMinStep": 1} if has_only_integers({title: x}) else {}
    return _linear_encoding("x", title, float(x[0]), last) | {"axis": ticks}


def _clock_encoding(title: str, clock: ClockAxis) -> dict[str, Any]:
    """Return an axis of local time whose ticks are at full minutes or seconds."""
    pattern = "%H:%M:%S" if clock.tick_seconds < 60 else "%H:%M"
    ticks = np.arange(ceil(clock.begin / clock.tick_seconds), clock.end / clock.tick_seconds)
    axis = {
        "values": (ticks * clock.tick_seconds).tolist(),
        "labelExpr": f"utcFormat(datum.value * 1000, '{pattern}')",
    }
    return _linear_encoding("x", title, clock.begin, clock.end) | {"axis": axis}


def _clipping_note(series: Series, y_limit: float) -> str:
    peaks = {label: max_value({label: values}) for label, values in series.items()}
    above = [f"{label}, up to {peak:,.0f}" for label, peak in peaks.items() if peak > y_limit]
    return f"Cut off above: {'; '.join(above)}." if above else ""


def bar_chart(
    title: str, x_title: str, labels: Sequence[str], parts: Series, *, empty_reason: str
) -> Chart:
    """Return a chart with a horizontal bar for each label.

    The parts of a bar are stacked, and their sum stands at its end.
    """
    table = _make_data_table("", labels, parts)
    if not max_value(parts):
        return Chart(title, None, (), table, empty_reason)
    sums = np.nansum([*parts.values()], axis=0)
    styles = svg.series_styles(len(parts))
    colours = _series_encoding([style.colour for style in styles])
    x = _linear_encoding("y", x_title, 0, float(sums.max()) * TOTAL_LABEL_HEADROOM) | {
        "axis": {"tickCount": 6}
    }
    bars = {
        "data": {"values": _to_records(labels, parts)},
        "mark": {"type": "bar", "strokeWidth": 1},
        "encoding": {
            "x": x | {"stack": "zero"},
            "color": colours,
            "stroke": colours,
            "fillOpacity": _series_encoding(svg.bar_opacities(len(parts))),
            "order": {"field": "series", "type": "ordinal"},
        },
    }
    totals = zip(labels, sums.tolist(), format_column(sums), strict=True)
    total_labels = {
        "data": {"values": [{"x": label, "y": y, "label": text} for label, y, text in totals]},
        "mark": {"type": "text", "align": "left", "dx": 4, "color": "currentColor"},
        "encoding": {"x": x, "text": {"field": "label", "type": "nominal"}},
    }
    drawing = svg.Drawing(_row_layout(labels, [bars, total_labels]), f"{title}: {x_title}")
    keys = _make_legend(parts, svg.bar_swatches) if len(parts) > 1 else ()
    return Chart(title, drawing, keys, table, empty_reason)


def point_chart(
    title: str,
    x_title: str,
    labels: Sequence[str],
    series: Series,
    *,
    min_value: float,
    empty_reason: str,
) -> Chart:
    """Return a chart with a row for each label and a point for each series.

    The scale is logarithmic; values below `min_value` are drawn there.
    """
    table = _make_data_table("", labels, series)
    if not has_values(series):
        return Chart(title, None, (), table, empty_reason)
    values = {label: np.maximum(column, min_value) for label, column in series.items()}
    finite = [float(y) for column in values.values() for y in column[~np.isnan(column)]]
    x = _log_encoding(x_title, finite)
    styles = svg.series_styles(len(series))
    points = {
        "data": {"values": _to_records(labels, values)},
        "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
        "encoding": {
            "x": x,
            "color": _series_encoding([style.colour for style in styles]),
            "shape": _series_encoding([style.shape for style in styles]),
        },
    }
    ranges = {
        "data": {"values": _to_records(labels, values)},
        "mark": {"type": "rule", "color": "var(--axis)"},
        "encoding": {"x": x | {"aggregate": "min"}, "x2": {"field": "y", "aggregate": "max"}},
    }
    drawing = svg.Drawing(_row_layout(labels, [ranges, points]), f"{title}: {x_title}")
    return Chart(title, drawing, _make_legend(series, svg.point_swatches), table, empty_reason)


def _linear_encoding(
    field: str, title: str, low: float, high: float, *, nice: bool = False
) -> dict[str, Any]:
    # Values outside are drawn at the edge. To clip them, Vega would use element ids, which would
    # not be unique on a page with several charts.
    scale = {"domain": [low, high], "nice": nice, "clamp": True}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale}


def _log_encoding(title: str, values: Sequence[float]) -> dict[str, Any]:
    """Return a logarithmic axis for positive values, with a tick at each power of ten."""
    low = floor(log10(min(values)))
    high = max(ceil(log10(max(values))), low + 1)
    return {
        "field": "y",
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "domain": [10.0**low, 10.0**high]},
        "axis": {"values": [10.0**power for power in range(low, high + 1)], "format": ",.12~g"},
    }


def _series_encoding(scale: Sequence[object]) -> dict[str, Any]:
    """Return a visual property of each series; the legend stands outside the SVG."""
    return {
        "field": "series",
        "type": "nominal",
        "scale": {"domain": list(range(len(scale))), "range": scale},
        "legend": None,
    }


def _row_layout(labels: Sequence[str], layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a specification of layers that share a row for each label."""
    y = {
        "field": "x",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(labels), "paddingInner": 0.3},
        "axis": {
            "domain": False,
            "ticks": False,
            "labelLimit": svg.CHART_WIDTH // 2,
            "minExtent": svg.LETTER_WIDTH * max(map(len, labels)),
        },
    }
    return {
        "height": {"step": svg.BAR_HEIGHT},
        "autosize": {"type": "fit-x", "contains": "padding"},
        "encoding": {"y": y},
        "layer": layers,
    }


def _make_legend(
    series: Series, samples: Callable[[int], Iterable[Markup]]
) -> tuple[LegendItem, ...]:
    return tuple(map(LegendItem, series, samples(len(series))))


def _to_records(x: Sequence[object], series: Series) -> list[dict[str, Any]]:
    """Return a Vega-Lite record for each value; None interrupts a line."""
    return [
        {"x": at, "y": None if np.isnan(value) else value, "series": place}
        for place, column in enumerate(series.values())
        for at, value in zip(x, column.tolist(), strict=True)
    ]


def _make_data_table(
    heading: str,
    x: Column | Sequence[str],
    series: Series,
    format_x: Callable[[Column], Sequence[str]] = format_column,
) -> Table:
    note = ""
    if isinstance(x, np.ndarray):
        bucket_size = rows_per_bucket(len(x), MAX_TABLE_ROWS)
        if bucket_size > 1:
            note = f"Each row has the highest of {bucket_size} values in succession."
        x, series = downsample(x, series, MAX_TABLE_ROWS)
        x = format_x(x)
    rows = zip(x, *map(format_column, series.values()), strict=True)
    return Table((heading, *series), tuple(rows), note)
