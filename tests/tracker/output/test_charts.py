"""Charts as SVG: what is drawn, what is said beside it, and what is not drawn."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tracker.output.charts import Chart, bar_chart, line_chart, point_chart
from tracker.output.series import Column, downsample

NAN = np.nan
SVG = "{http://www.w3.org/2000/svg}"


def column(*values: float) -> Column:
    return np.array(values, np.float64)


def lines(x: Column, y_limit: float = np.inf, **series: Column) -> Chart:
    return line_chart(
        "Speed", "seconds", "messages", x, series, empty_reason="no message came", y_limit=y_limit
    )


def picture(chart: Chart) -> ElementTree.Element:
    """The picture, which must be XML."""
    assert chart.svg is not None
    return ElementTree.fromstring(chart.svg)  # noqa: S314  # it is ours


def texts(chart: Chart) -> list[str]:
    return [each.text or "" for each in picture(chart).iter(f"{SVG}text")]


def marks(chart: Chart, kind: str) -> list[ElementTree.Element]:
    """The shapes that stand for values, of a kind that Vega names."""
    return [
        path
        for group in picture(chart).iter(f"{SVG}g")
        if f"mark-{kind} role-mark" in group.get("class", "")
        for path in group.iter(f"{SVG}path")
    ]


def test_a_line_chart_says_what_it_shows() -> None:
    chart = lines(column(0, 1, 2), fast=column(1, 2, 3), slow=column(0, 0, 1))
    assert chart.title == "Speed"
    assert [key.label for key in chart.keys] == ["fast", "slow"]
    assert {"seconds", "messages", "0", "1", "2", "3"} <= set(texts(chart))
    assert picture(chart).get("role") == "img"
    assert picture(chart).get("aria-label") == "Speed: messages, over seconds"


def test_its_size_is_the_pages() -> None:
    head = str(lines(column(0, 1), fast=column(1, 2)).svg).split(">")[0]
    assert 'viewBox="0 0 440 210"' in head
    assert "width=" not in head


def test_lines_differ_in_colour_and_in_dashes() -> None:
    chart = lines(column(0, 1), a=column(1, 2), b=column(2, 3), c=column(3, 4))
    drawn = [(each.get("stroke"), each.get("stroke-dasharray")) for each in marks(chart, "line")]
    assert [colour for colour, _ in drawn] == [f"var(--series-{n})" for n in (1, 2, 3)]
    assert len({dashes for _, dashes in drawn}) == 3
    for (colour, _), key in zip(drawn, chart.keys, strict=True):
        assert f'stroke="{colour}"' in key.swatch


def test_a_missing_value_breaks_a_line_and_one_alone_is_a_point() -> None:
    gap = lines(column(0, 1, 2, 3, 4), a=column(1, 1, NAN, 2, 2))
    [path] = marks(gap, "line")
    assert path.get("d", "").count("M") == 2
    assert marks(gap, "symbol") == []
    alone = lines(column(0, 1, 2, 3, 4), a=column(1, 1, NAN, 2, NAN))
    assert len(marks(alone, "symbol")) == 1


def test_one_second_is_drawn() -> None:
    assert len(marks(lines(column(0), a=column(7)), "symbol")) == 1


def test_pictures_on_one_page_do_not_share_names() -> None:
    charts = (
        lines(column(0, 1), y_limit=1, a=column(1, 2)),
        bar_chart("B", "s", ["x"], {"a": column(1)}, empty_reason=""),
        point_chart("P", "s", ["x"], {"a": column(1)}, min_value=0.1, empty_reason=""),
    )
    assert [each for chart in charts for each in picture(chart).iter() if each.get("id")] == []


def test_what_is_above_the_ceiling_is_cut_off_and_told() -> None:
    chart = lines(column(0, 1), y_limit=10, blast=column(50_000, 0), rest=column(0, 9))
    assert chart.note == "Cut off above: blast, up to 50,000."
    assert "10" in texts(chart)
    assert "50,000" not in texts(chart)
    assert lines(column(0, 1), y_limit=10, rest=column(0, 9)).note == ""


@pytest.mark.parametrize("values", [(NAN, NAN), (0, 0)])
def test_nothing_is_not_drawn(values: tuple[float, float]) -> None:
    chart = lines(column(0, 1), a=column(*values))
    assert (chart.svg, chart.empty_reason) == (None, "no message came")
    assert lines(column(0, 1)).svg is None
    assert bar_chart("B", "s", ["x", "y"], {"a": column(*values)}, empty_reason="none").svg is None
    assert bar_chart("B", "s", [], {"a": column()}, empty_reason="none").svg is None


def test_a_point_chart_of_nothing_is_not_drawn() -> None:
    unknown = {"p50": column(NAN)}
    assert point_chart("P", "s", ["x"], unknown, min_value=0.1, empty_reason="none").svg is None


def test_no_peak_is_lost() -> None:
    x, values = np.arange(1_000.0), np.zeros(1_000)
    values[777] = 5
    short, series = downsample(x, {"a": values, "b": np.full(1_000, NAN)}, 60)
    assert len(short) <= 60
    assert series["a"].max() == 5
    assert short[series["a"].argmax()] <= 777
    assert np.isnan(series["b"]).all()


def test_a_long_series_has_a_short_table() -> None:
    x = np.arange(1_000.0)
    chart = lines(x, a=x)
    assert len(chart.table.rows) <= 60
    assert chart.table.rows[-1] == ("986", "999")
    assert chart.table.note == "Each row has the highest of 17 values in succession."
    [path] = marks(chart, "line")
    assert len(re.findall("[ML]", path.get("d", ""))) <= 300


def test_a_table_has_the_places_that_a_column_needs() -> None:
    table = lines(
        column(0, 1), whole=column(1_234, NAN), part=column(0.5, 12), tiny=column(2e-5, 0)
    ).table
    assert table.columns == ("seconds", "whole", "part", "tiny")
    assert table.rows == (("0", "1,234", "0.500", "0.000020"), ("1", "-", "12.000", "0.000000"))
    assert table.note == ""


def test_bars_have_their_parts_and_their_sums() -> None:
    parts = {"waiting": column(0.25, 1.0), "service": column(0.5, NAN)}
    chart = bar_chart("Time", "seconds", ["suppress", "validate"], parts, empty_reason="no task")
    assert {"suppress", "validate", "0.750", "1.000", "seconds"} <= set(texts(chart))
    assert [key.label for key in chart.keys] == ["waiting", "service"]
    looks = {(each.get("fill"), each.get("fill-opacity")) for each in marks(chart, "rect")}
    assert looks == {("var(--series-1)", "0.25"), ("var(--series-2)", "1")}
    assert chart.table.rows == (("suppress", "0.250", "0.500"), ("validate", "1.000", "-"))


def test_bars_of_one_part_need_no_legend() -> None:
    chart = bar_chart(
        "Reasons", "messages", ["NDNC", "Timeout"], {"n": column(5, 3)}, empty_reason=""
    )
    assert chart.keys == ()
    assert [text for text in texts(chart) if text in ("NDNC", "Timeout")] == ["NDNC", "Timeout"]


def test_points_are_on_a_logarithmic_scale() -> None:
    series = {"p50": column(0.02, 0), "max": column(300, NAN)}
    chart = point_chart("Latency", "seconds", ["a", "b"], series, min_value=0.001, empty_reason="")
    assert {"0.001", "0.1", "1,000", "seconds"} <= set(texts(chart))
    # What is zero has no place on such a scale, and stands at its beginning.
    places = [each.get("transform", "") for each in marks(chart, "symbol")]
    assert len(places) == 3
    assert any(place.startswith("translate(0,") for place in places)
    assert len({each.get("d") for each in marks(chart, "symbol")}) == 2


def test_what_comes_from_outside_is_escaped() -> None:
    bad = '</svg><script>alert("1")</script>'
    x, series = column(0, 1), {bad: column(1, 2)}
    for chart in (
        line_chart(bad, bad, bad, x, series, empty_reason=""),
        bar_chart(bad, bad, [bad], {bad: column(1)}, empty_reason=""),
        point_chart(bad, bad, [bad], {bad: column(1)}, min_value=0.1, empty_reason=""),
    ):
        assert "<script" not in str(chart.svg)
        assert any("<script>" in text for text in texts(chart)), "it is there as text"
