"""Measures with their targets, and the tables of a result."""

from pathlib import Path

import pytest

from benchmarks.results import InvalidResult, Line, Measure, read_result
from benchmarks.rounds import summarize_rate
from benchmarks.tables import format_markdown, format_result
from tests.support.bench_results import make_bench_result

AT_LEAST = Measure("pipeline ÷ floor", "≥", 0.5)
AT_MOST = Measure("highest second ÷ rate", "≤", 1.1)
BELOW = Measure("slowest page, p95", "<", 100, unit=" ms")
WITHOUT_TARGET = Measure("pipeline ÷ schema floor")


@pytest.mark.parametrize(
    ("measure", "values", "reached"),
    [
        (AT_LEAST, [0.5], True),
        (AT_LEAST, [0.4, 0.49, 0.9], False),
        (AT_MOST, [1.1], True),
        (AT_MOST, [1.11], False),
        (BELOW, [99.9], True),
        (BELOW, [100.0], False),
        (BELOW, [], False),
        (WITHOUT_TARGET, [1.0], None),
    ],
)
def test_target_decides_whether_the_median_reaches_it(
    measure: Measure, values: list[float], reached: bool | None
) -> None:
    assert measure.make_line(values, "figure").reached is reached


def test_line_of_rates_has_the_spread_of_the_ratios_of_each_round() -> None:
    line = AT_LEAST.compare_rates([30.0, 60.0, 44.0], [60.0, 100.0, 80.0], detail="200,000")
    assert line.value is not None
    assert (line.value.low, line.value.median, line.value.high) == (0.5, 0.55, 0.6)
    assert (line.measure, line.figure, line.beside) == ("pipeline ÷ floor, 200,000", "44/s", "80/s")
    assert (line.target, line.reached) == ("≥ 0.5", True)


def test_line_of_durations_divides_the_query_by_ours() -> None:
    line = Measure("GROUP BY ÷ report").compare_seconds([0.002], [0.15], detail="1,000,000")
    assert line.value is not None
    assert line.value.median == pytest.approx(75)
    assert (line.figure, line.beside) == ("2.00 ms", "150.00 ms")


def test_line_survives_its_file() -> None:
    line = AT_LEAST.compare_rates([1.0], [2.0])
    assert Line.model_validate_json(line.model_dump_json()) == line


def test_table_shows_a_missed_target_and_the_spread() -> None:
    table = format_result(make_bench_result(ratios=(0.4, 0.45, 0.47)))
    assert "0.45 (0.40 to 0.47)  ≥ 0.5   missed" in table
    assert "30,000 (29,000 to 31,000)" in table


def test_tables_warn_of_other_load() -> None:
    warning = "pipeline: other processes used 0.98 cores"
    result = make_bench_result(warnings=[warning])
    assert (
        "other load during 1 measurement, so their figures are doubtful;"
        f" the first is PostgreSQL, {warning}" in (format_result(result))
    )
    assert warning in format_markdown(result)


def test_markdown_has_date_machine_and_main_figures() -> None:
    assert format_markdown(make_bench_result()).splitlines() == [
        "Measured on 2026-12-01: cores 2.",
        "No other load was seen.",
        "",
        "|  | PostgreSQL |",
        "| --- | --- |",
        "| pipeline, 6,000 messages | 30,000/s (29,000 to 31,000); 3.0 µs CPU per message"
        " (driver 3.0); 1,379 B WAL per message |",
        "| pipeline ÷ floor | 0.50 (0.48 to 0.52), target ≥ 0.5 |",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "No such file or directory"),
        ("{", "Invalid JSON"),
        ("{}", "version: Field required"),
        ('{"version": 1}', "version: Input should be 2"),
    ],
)
def test_wrong_file_is_an_error_of_one_sentence(
    tmp_path: Path, content: str | None, sentence: str
) -> None:
    file = tmp_path / "bench.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidResult) as raised:
        read_result(file)
    text = str(raised.value)
    assert sentence in text
    assert text.startswith(f"{file}: ")
    assert "; expected a file" in text
    assert "\n" not in text


def test_highest_second_may_begin_at_any_time() -> None:
    steady = [number / 10 for number in range(100)]
    assert summarize_rate(steady) == pytest.approx((10.0, 10))
    burst = sorted([*steady, *(4.8 + number / 100 for number in range(40))])
    assert summarize_rate(burst)[1] == 50
