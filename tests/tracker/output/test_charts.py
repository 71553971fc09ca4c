"""Charts: what is drawn, what stands beside it, and what is left out."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tracker.output import svg
from tracker.output.charts import Chart, bar_chart, draw_charts, line_chart, point_chart
from tracker.output.series import Column, downsample

NAN = np.nan
SVG = "{http://www.w3.org/2000/svg}"


def column(*values: float) -> Column:
    return np.array(values, np.float64)


def lines(x: Column, y_limit: float = np.inf, **series: Column) -> Chart:
    return line_chart(
        "Speed", "seconds", "messages", x, series, empty_reason="no message came", y_limit=y_limit
    )


def draw(chart: Chart) -> ElementTree.Element:
    """Return the SVG of a chart, which must be XML."""
    [drawn] = draw_charts([chart])
    assert drawn.svg is not None
    return ElementTree.fromstring(drawn.svg)  # noqa: S314  # it is ours


def texts(chart: Chart) -> list[str]:
    return [element.text or "" for element in draw(chart).iter(f"{SVG}text")]


def marks(chart: Chart, kind: str) -> list[ElementTree.Element]:
    """Return the shapes of one of Vega's kinds that stand for values."""
    return [
        path
        for group in draw(chart).iter(f"{SVG}g")
        if f"mark-{kind} role-mark" in group.get("class", "")
        for path in group.iter(f"{SVG}path")
    ]


def test_line_chart_names_its_axes_and_series() -> None:
    chart = lines(column(0, 1, 2), fast=column(1, 2, 3), slow=column(0, 0, 1))
    assert chart.title == "Speed"
    assert [key.label for key in chart.keys] == ["fast", "slow"]
    assert {"seconds", "messages", "0", "1", "2", "3"} <= set(texts(chart))
    assert draw(chart).get("role") == "img"
    assert draw(chart).get("aria-label") == "Speed: messages, over seconds"


def test_svg_takes_its_size_from_the_page() -> None:
    element = draw(lines(column(0, 1), fast=column(1, 2)))
    assert element.get("viewBox") == "0 0 440 210"
    assert element.get("width") is None


def test_lines_differ_in_colour_and_dashes() -> None:
    chart = lines(column(0, 1), a=column(1, 2), b=column(2, 3), c=column(3, 4))
    drawn = [(mark.get("stroke"), mark.get("stroke-dasharray")) for mark in marks(chart, "line")]
    assert [colour for colour, _ in drawn] == [f"var(--series-{n})" for n in (1, 2, 3)]
    assert len({dashes for _, dashes in drawn}) == 3
    for (colour, _), key in zip(drawn, chart.keys, strict=True):
        assert f'stroke="{colour}"' in key.swatch


def test_missing_value_interrupts_a_line_and_isolated_value_is_a_point() -> None:
    gap = lines(column(0, 1, 2, 3, 4), a=column(1, 1, NAN, 2, 2))
    [path] = marks(gap, "line")
    assert path.get("d", "").count("M") == 2
    assert marks(gap, "symbol") == []
    isolated = lines(column(0, 1, 2, 3, 4), a=column(1, 1, NAN, 2, NAN))
    assert len(marks(isolated, "symbol")) == 1


def test_one_second_is_drawn() -> None:
    assert len(marks(lines(column(0), a=column(7)), "symbol")) == 1


def test_charts_of_one_page_have_no_element_ids() -> None:
    charts = (
        lines(column(0, 1), y_limit=1, a=column(1, 2)),
        bar_chart("B", "s", ["x"], {"a": column(1)}, empty_reason=""),
        point_chart("P", "s", ["x"], {"a": column(1)}, min_value=0.1, empty_reason=""),
    )
    assert [
        element for chart in charts for element in draw(chart).iter() if element.get("id")
    ] == []


def test_values_above_the_limit_are_cut_off_with_a_note() -> None:
    chart = lines(column(0, 1), y_limit=10, blast=column(50_000, 0), rest=column(0, 9))
    assert chart.note == "Cut off above: blast, up to 50,000."
    assert "10" in texts(chart)
    assert "50,000" not in texts(chart)
    assert lines(column(0, 1), y_limit=10, rest=column(0, 9)).note == ""


@pytest.mark.parametrize("values", [(NAN, NAN), (0, 0)])
def test_charts_without_values_are_not_drawn(values: tuple[float, float]) -> None:
    chart = lines(column(0, 1), a=column(*values))
    assert (chart.drawing, chart.empty_reason) == (None, "no message came")
    assert lines(column(0, 1)).drawing is None
    assert (
        bar_chart("B", "s", ["x", "y"], {"a": column(*values)}, empty_reason="none").drawing is None
    )
    assert bar_chart("B", "s", [], {"a": column()}, empty_reason="none").drawing is None


def test_point_chart_without_values_is_not_drawn() -> None:
    unknown = {"p50": column(NAN)}
    assert point_chart("P", "s", ["x"], unknown, min_value=0.1, empty_reason="none").drawing is None


def test_downsampling_keeps_peaks() -> None:
    x, values = np.arange(1_000.0), np.zeros(1_000)
    values[777] = 5
    short, series = downsample(x, {"a": values, "b": np.full(1_000, NAN)}, 60)
    assert len(short) <= 60
    assert series["a"].max() == 5
    assert short[series["a"].argmax()] <= 777
    assert np.isnan(series["b"]).all()


def test_long_series_has_a_short_table_and_path() -> None:
    x = np.arange(1_000.0)
    chart = lines(x, a=x)
    assert len(chart.table.rows) <= 60
    assert chart.table.rows[-1] == ("986", "999")
    assert chart.table.note == "Each row has the highest of 17 values in succession."
    [path] = marks(chart, "line")
    assert len(re.findall("[ML]", path.get("d", ""))) <= 300


def test_decimals_of_a_table_column() -> None:
    table = lines(
        column(0, 1), whole=column(1_234, NAN), part=column(0.5, 12), tiny=column(2e-5, 0)
    ).table
    assert table.columns == ("seconds", "whole", "part", "tiny")
    assert table.rows == (("0", "1,234", "0.500", "0.000020"), ("1", "-", "12.000", "0.000000"))
    assert table.note == ""


def test_bars_show_parts_and_totals() -> None:
    parts = {"waiting": column(0.25, 1.0), "service": column(0.5, NAN)}
    chart = bar_chart("Time", "seconds", ["suppress", "validate"], parts, empty_reason="no task")
    assert {"suppress", "validate", "0.750", "1.000", "seconds"} <= set(texts(chart))
    assert [key.label for key in chart.keys] == ["waiting", "service"]
    styles = {(mark.get("fill"), mark.get("fill-opacity")) for mark in marks(chart, "rect")}
    assert styles == {("var(--series-1)", "0.25"), ("var(--series-2)", "1")}
    assert chart.table.rows == (("suppress", "0.250", "0.500"), ("validate", "1.000", "-"))


def test_bars_with_one_part_have_no_legend() -> None:
    chart = bar_chart(
        "Reasons", "messages", ["NDNC", "Timeout"], {"n": column(5, 3)}, empty_reason=""
    )
    assert chart.keys == ()
    assert [text for text in texts(chart) if text in ("NDNC", "Timeout")] == ["NDNC", "Timeout"]


def test_points_are_on_a_logarithmic_scale() -> None:
    series = {"p50": column(0.02, 0), "max": column(300, NAN)}
    chart = point_chart("Latency", "seconds", ["a", "b"], series, min_value=0.001, empty_reason="")
    assert {"0.001", "0.1", "1,000", "seconds"} <= set(texts(chart))
    # Zero is not on a logarithmic scale, and is drawn at its start.
    places = [mark.get("transform", "") for mark in marks(chart, "symbol")]
    assert len(places) == 3
    assert any(place.startswith("translate(0,") for place in places)
    assert len({mark.get("d") for mark in marks(chart, "symbol")}) == 2


def test_names_are_escaped() -> None:
    bad = '</svg><script>alert("1")</script>'
    x, series = column(0, 1), {bad: column(1, 2)}
    for chart in (
        line_chart(bad, bad, bad, x, series, empty_reason=""),
        bar_chart(bad, bad, [bad], {bad: column(1)}, empty_reason=""),
        point_chart(bad, bad, [bad], {bad: column(1)}, min_value=0.1, empty_reason=""),
    ):
        [drawn] = draw_charts([chart])
        assert "<script" not in str(drawn.svg)
        assert any("<script>" in text for text in texts(chart)), "it is shown as text"


def test_a_child_process_draws_the_same_svgs() -> None:
    charts = [
        lines(column(0, 1, 2), fast=column(1, 1 / 3, 3), slow=column(0, NAN, 1)),
        lines(column(0, 1)),
        bar_chart("<B> ✔", "s", ["山田"], {"a": column(1)}, empty_reason=""),
        point_chart("P", "s", ["x"], {"a": column(1e-5)}, min_value=1e-9, empty_reason=""),
    ]
    drawn = draw_charts(charts, svg.draw_svgs_in_child)
    assert drawn == draw_charts(charts)
    assert [chart.svg is None for chart in drawn] == [False, True, False, False]


def test_a_failed_child_process_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = svg.Drawing({"mark": "no mark"}, "broken")
    with pytest.raises(svg.DrawingFailed, match="failed with exit code 1: "):
        svg.draw_svgs_in_child([broken])
    monkeypatch.setattr(svg, "CHILD_TIMEOUT_SECONDS", 0.01)
    with pytest.raises(svg.DrawingFailed, match="took longer than"):
        svg.draw_svgs_in_child([broken])
