"""Comparison of two results of the benchmark."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.compare import compare_results, has_changed
from benchmarks.context import FULL_SIZES
from benchmarks.results import BenchmarkResult, InvalidResult, Spread
from tests.support.bench_results import make_bench_result


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ([1.0, 2.0, 3.0], [3.0, 4.0], False),
        ([1.0, 2.0, 3.0], [3.1, 4.0], True),
        ([3.1, 4.0], [1.0, 2.0, 3.0], True),
        ([100.0], [109.0], False),
        ([100.0], [112.0], True),
        ([0.0], [0.0], False),
    ],
)
def test_figure_changes_only_beyond_its_spread(
    old: list[float], new: list[float], changed: bool
) -> None:
    assert has_changed(Spread.of(old), Spread.of(new)) is changed


def test_changed_figures_are_listed_with_both_spreads() -> None:
    new = make_bench_result(rates=(41_000.0, 42_000.0, 43_000.0))
    header, row, summary = compare_results(make_bench_result(), new).splitlines()
    assert header.split() == ["database", "figure", "old", "new", "change"]
    assert row.split("  ")[0:2] == ["postgresql", "pipeline: messages per second"]
    assert "30,000 (29,000 to 31,000)  42,000 (41,000 to 43,000)  +40.0%" in row
    assert summary == "1 of 5 figures changed beyond the spread"


def test_result_beside_itself_has_no_difference() -> None:
    result = make_bench_result()
    assert compare_results(result, result) == "no difference beyond the spread"


def test_what_makes_results_hard_to_compare_is_named() -> None:
    old = make_bench_result(warnings=["pipeline: other processes used 0.98 cores"])
    new = make_bench_result(machine={"cores": "8"}, cpu={"all": (3.0,)})
    _, only, machine, load = compare_results(old, new).splitlines()
    assert only == "only in OLD: postgresql, pipeline: µs of CPU, driver"
    assert machine == "machine: cores was 2, and is 8"
    assert load.startswith("OLD: warning: other load during 1 measurement, ")


@pytest.mark.parametrize(
    "new", [make_bench_result(sizes=FULL_SIZES), make_bench_result(database="sqlite")]
)
def test_results_of_other_sizes_or_databases_are_refused(new: BenchmarkResult) -> None:
    with pytest.raises(InvalidResult, match="expected"):
        compare_results(make_bench_result(), new)


def test_wrong_file_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_text(make_bench_result().model_dump_json())
    wrong = tmp_path / "wrong.json"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.compare", str(good), str(wrong)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"bench-compare: {wrong}: No such file or directory; expected a file of `make bench`\n"
    )
