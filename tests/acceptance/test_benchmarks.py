"""The quick form of the whole benchmark."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.make import run_make
from tests.support.paths import ROOT

DELAY_SECONDS = 0.5
"""Time by which a busy driver may inject a fault too late; its time has one decimal."""


@pytest.fixture(scope="module")
def bench_file(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Return the contents of the file that `make bench QUICK=1` writes."""
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    ended = run_make("bench", "QUICK=1", f"ARGS=--json {file}", settings={}, limit=900)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    contents: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return contents


@pytest.mark.timeout(960)
def test_quick_benchmark_measures_every_part_on_each_database(
    bench_file: Mapping[str, Any],
) -> None:
    assert [measured["database"] for measured in bench_file["databases"]] == [
        "sqlite",
        "postgresql",
    ]
    for measured in bench_file["databases"]:
        [rates] = measured["rounds"]
        assert set(rates) == {"pipeline", "unrecorded", "unswept", "watched", "floor"}
        assert all(rate > 0 for rate in rates.values())
        assert measured["largest"]["peaks"].keys() == {"driver", "worker", "pool child", "broker"}
        sizes = [bench_file["sizes"]["pipeline"], bench_file["sizes"]["largest"]]
        assert [report["messages"] for report in measured["reports"]] == sizes
        assert len(measured["rollups"]) == len(bench_file["sizes"]["rollups"])
        assert_broker_is_flushed(measured["undisturbed"], measured["flushed"])
        for part in ("single", "judging", "receipts", "result", "waited", "settings"):
            assert measured[part], part


def assert_broker_is_flushed(undisturbed: Mapping[str, Any], flushed: Mapping[str, Any]) -> None:
    """Assert that the broker was flushed half-way, unless the run took less than half the time."""
    times = [fault["times"] for fault in flushed["faults"]]
    had_ended = flushed["seconds"] < undisturbed["seconds"] / 2 + DELAY_SECONDS
    assert times == [1] or (times == [] and had_ended)


def test_each_measure_is_documented_with_its_target(bench_file: Mapping[str, Any]) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    section = page.partition("| measure |")[2].partition("\n## ")[0]
    rows = [row.strip("| ").split(" | ") for row in section.splitlines() if row.startswith("| ")]
    targets = {row[0]: row[2] if len(row) == 3 else "" for row in rows}
    for measured in bench_file["databases"]:
        for line in measured["lines"]:
            [name] = [name for name in targets if line["measure"].startswith(name)]
            assert line["wanted"] in ("", targets[name]), line
