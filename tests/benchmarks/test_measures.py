"""Lines of the benchmark's table."""

import json

import pytest

from benchmarks.measures import Measure, format_line

AT_LEAST = Measure("pipeline ÷ floor", at_least=0.35)
BELOW = Measure("slowest page, p95", below=100, unit=" ms")
WITHOUT_TARGET = Measure("events recorded")


@pytest.mark.parametrize(
    ("measure", "value", "reached"),
    [
        (AT_LEAST, 0.35, True),
        (AT_LEAST, 0.34, False),
        (BELOW, 99.9, True),
        (BELOW, 100.0, False),
        (BELOW, None, False),
        (WITHOUT_TARGET, 1.0, None),
    ],
)
def test_target_decides_whether_a_value_reaches_it(
    measure: Measure, value: float | None, reached: bool | None
) -> None:
    assert measure.make_line(value, "figure")["reached"] is reached


def test_line_of_two_rates_has_their_ratio() -> None:
    line = AT_LEAST.compare_rates(33_656.4, 41_621.0, detail="200,000")
    assert format_line(line) == {
        "measure": "pipeline ÷ floor, 200,000",
        "figure": "33,656/s",
        "beside": "41,621/s",
        "ratio": "0.81",
        "wanted": "≥ 0.35",
        "reached": "yes",
    }


def test_line_of_two_durations_divides_the_query_by_ours() -> None:
    line = Measure("GROUP BY ÷ report").compare_seconds(0.0016, 0.151, detail="1,000,000")
    assert line["ratio"] == pytest.approx(94.4, rel=0.01)
    assert (line["figure"], line["beside"]) == ("1.60 ms", "151.00 ms")


def test_figure_with_a_unit_has_no_ratio() -> None:
    assert BELOW.make_line(42.0, "42 ms", "/runs")["ratio"] is None


def test_line_serialises() -> None:
    line = AT_LEAST.compare_rates(1.0, 2.0)
    assert json.loads(json.dumps(line)) == line
