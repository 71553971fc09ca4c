"""The benchmark, whole, in its quick form."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.make import run_make
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The file that `make bench QUICK=1` writes."""
    folder = tmp_path_factory.mktemp("bench")
    file = folder / "bench.json"
    ended = run_make("bench", "QUICK=1", f"ARGS=--output {file}", settings={}, limit=900)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    read: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return read


@pytest.mark.timeout(960)
def test_quick_benchmark_measures_every_part_on_each_database(
    written: Mapping[str, Any],
) -> None:
    assert [measured["database"] for measured in written["databases"]] == ["sqlite", "postgresql"]
    for measured in written["databases"]:
        [rates] = measured["rounds"]
        assert set(rates) == {"pipeline", "unrecorded", "unswept", "watched", "floor"}
        assert all(rate > 0 for rate in rates.values())
        assert measured["largest"]["peaks"].keys() == {"driver", "worker", "pool child", "broker"}
        sizes = [written["sizes"]["pipeline"], written["sizes"]["largest"]]
        assert [report["messages"] for report in measured["reports"]] == sizes
        assert len(measured["rollups"]) == len(written["sizes"]["rollups"])
        assert measured["flushed"]["faults"][0]["times"] == 1
        for part in ("single", "judging", "receipts", "result", "waited", "settings"):
            assert measured[part], part


def test_each_measure_is_documented_with_its_target(written: Mapping[str, Any]) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    section = page.partition("| measure |")[2].partition("\n## ")[0]
    rows = [row.strip("| ").split(" | ") for row in section.splitlines() if row.startswith("| ")]
    targets = {row[0]: row[2] if len(row) == 3 else "" for row in rows}
    for measured in written["databases"]:
        for line in measured["lines"]:
            [name] = [name for name in targets if line["measure"].startswith(name)]
            assert line["wanted"] in ("", targets[name]), line
