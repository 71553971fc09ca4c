"""Charts for a page: pictures that need no program to be shown, with what their series mean and
their data as a table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
"""What is longer is drawn, and put in its table, as the highest of each stretch."""


@dataclass(frozen=True)
class LegendItem:
    """What a series is called, and a sample of how it looks."""

    label: str
    swatch: Markup


@dataclass(frozen=True)
class Table:
    """Data as people read it; the first column says what a row is of."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A picture with its title, what its series mean where they need be told, and its data.

    ``svg`` is None where there is nothing to see, for the reason that ``empty_reason`` gives. ``note``
    says what the picture leaves out.
    """

    title: str
    svg: Markup | None
    keys: tuple[LegendItem, ...]
    table: Table
    empty_reason: str
    note: str = ""


def line_chart(
    title: str,
    x_title: str,
    y_title: str,
    x: Column,
    series: Series,
    *,
    empty_reason: str,
    y_limit: float = inf,
) -> Chart:
    """A line for each of the series, from zero up; it is broken where a value is missing, and cut
    off above a ``y_limit``."""
    table = _make_data_table(x_title, x, series)
    if not max_value(series):
        return Chart(title, None, (), table, empty_reason)
    x, series = downsample(x, series, MAX_CHART_POINTS)
    looks = svg.looks(len(series))
    top = min(max_value(series), y_limit)
    encoding = {
        "x": _linear_encoding("x", x_title, float(x[0]), float(x[-1] if len(x) > 1 else x[0] + 1)),
        "y": _linear_encoding("y", y_title, 0, top, nice=True) | {"axis": _tick_options(series)},
        "color": _series_encoding([look.colour for look in looks]),
    }
    lines = {
        "data": {"values": _to_records(x.tolist(), series)},
        "mark": {"type": "line", "strokeWidth": 1.8, "strokeJoin": "round"},
        "encoding": encoding
        | {"strokeDash": _series_encoding([list(look.dashes) for look in looks])},
    }
    points = _to_records(x.tolist(), {key: isolated_points(of) for key, of in series.items()})
    alone = {
        "data": {"values": [point for point in points if point["y"] is not None]},
        "mark": {"type": "point", "filled": True, "size": 22, "opacity": 1},
        "encoding": encoding,
    }
    spec = {
        "height": svg.CHART_HEIGHT,
        "autosize": {"type": "fit", "contains": "padding"},
        "layer": [lines, alone],
    }
    picture = svg.render_svg(spec, f"{title}: {y_title}, over {x_title}")
    keys = _make_legend(series, svg.line_swatches)
    return Chart(title, picture, keys, table, empty_reason, _clipping_note(series, y_limit))


def _tick_options(series: Series) -> dict[str, Any]:
    """Where everything is whole, so are the ticks."""
    return {"tickMinStep": 1} if has_only_integers(series) else {}


def _clipping_note(series: Series, y_limit: float) -> str:
    peaks = {key: max_value({key: of}) for key, of in series.items()}
    above = [f"{key}, up to {peak:,.0f}" for key, peak in peaks.items() if peak > y_limit]
    return f"Cut off above: {'; '.join(above)}." if above else ""


def bar_chart(
    title: str, x_title: str, labels: Sequence[str], parts: Series, *, empty_reason: str
) -> Chart:
    """A bar for each label: its parts one behind the other, and their sum at its end."""
    table = _make_data_table("", labels, parts)
    if not max_value(parts):
        return Chart(title, None, (), table, empty_reason)
    sums = np.nansum([*parts.values()], axis=0)
    colours = _series_encoding([look.colour for look in svg.looks(len(parts))])
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
    ended = zip(labels, sums.tolist(), format_column(sums), strict=True)
    ends = {
        "data": {"values": [{"x": label, "y": sum_, "told": said} for label, sum_, said in ended]},
        "mark": {"type": "text", "align": "left", "dx": 4, "color": "currentColor"},
        "encoding": {"x": x, "text": {"field": "told", "type": "nominal"}},
    }
    picture = svg.render_svg(_row_layout(labels, [bars, ends]), f"{title}: {x_title}")
    keys = _make_legend(parts, svg.bar_swatches) if len(parts) > 1 else ()
    return Chart(title, picture, keys, table, empty_reason)


TOTAL_LABEL_HEADROOM = 1.15
"""How much longer than the longest bar the axis is: the sum is behind it."""


def point_chart(
    title: str,
    x_title: str,
    labels: Sequence[str],
    series: Series,
    *,
    min_value: float,
    empty_reason: str,
) -> Chart:
    """A point of each of the series in a row for each label, on a logarithmic scale; what is less
    than ``min_value`` is drawn there."""
    table = _make_data_table("", labels, series)
    if not has_values(series):
        return Chart(title, None, (), table, empty_reason)
    values = {key: np.maximum(of, min_value) for key, of in series.items()}
    x = _log_encoding(
        x_title, [float(each) for of in values.values() for each in of[~np.isnan(of)]]
    )
    looks = svg.looks(len(series))
    points = {
        "data": {"values": _to_records(labels, values)},
        "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
        "encoding": {
            "x": x,
            "color": _series_encoding([look.colour for look in looks]),
            "shape": _series_encoding([look.shape for look in looks]),
        },
    }
    reach = {
        "data": {"values": _to_records(labels, values)},
        "mark": {"type": "rule", "color": "var(--axis)"},
        "encoding": {"x": x | {"aggregate": "min"}, "x2": {"field": "y", "aggregate": "max"}},
    }
    picture = svg.render_svg(_row_layout(labels, [reach, points]), f"{title}: {x_title}")
    return Chart(title, picture, _make_legend(series, svg.point_swatches), table, empty_reason)


def _linear_encoding(
    field: str, title: str, low: float, high: float, *, nice: bool = False
) -> dict[str, Any]:
    # What lies beyond is drawn at the edge. To clip it, Vega would use ids, which a page with
    # several pictures has only once.
    scale = {"domain": [low, high], "nice": nice, "clamp": True}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale}


def _log_encoding(title: str, values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis on which positive values have room, with a tick for each power of ten."""
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
    """What each series has of a property: what it means is told beside the picture."""
    return {
        "field": "series",
        "type": "nominal",
        "scale": {"domain": list(range(len(scale))), "range": scale},
        "legend": None,
    }


def _row_layout(labels: Sequence[str], layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Layers with a row for each label, in the order of these."""
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
    """A row for each value, as Vega-Lite wants them; None breaks a line."""
    return [
        {"x": at, "y": None if np.isnan(value) else value, "series": place}
        for place, column in enumerate(series.values())
        for at, value in zip(x, column.tolist(), strict=True)
    ]


def _make_data_table(heading: str, x: Column | Sequence[str], series: Series) -> Table:
    note = ""
    if isinstance(x, np.ndarray):
        many = rows_per_bucket(len(x), MAX_TABLE_ROWS)
        if many > 1:
            note = f"Each row has the highest of {many} values in succession."
        x, series = downsample(x, series, MAX_TABLE_ROWS)
        x = format_column(x)
    rows = zip(x, *map(format_column, series.values()), strict=True)
    return Table((heading, *series), tuple(rows), note)
