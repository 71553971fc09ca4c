"""The quick form of the whole benchmark."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results import DATABASES, BenchmarkResult, read_result
from tests.support.make import run_make
from tests.support.paths import ROOT

ROLES = {"driver", "worker", "pool", "broker", "all"}


@pytest.fixture(scope="module")
def bench_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file that `make bench QUICK=1` writes."""
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    ended = run_make("bench", "QUICK=1", f"ARGS=--json {file}", settings={}, limit=900)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return file


@pytest.fixture(scope="module")
def result(bench_file: Path) -> BenchmarkResult:
    """Return the contents of that file."""
    return read_result(bench_file)


@pytest.mark.timeout(960)
def test_quick_benchmark_measures_every_part_on_each_database(result: BenchmarkResult) -> None:
    assert [measured.database for measured in result.databases] == list(DATABASES)
    for measured in result.databases:
        is_postgresql = measured.database == "postgresql"
        throughputs = {throughput.name: throughput for throughput in measured.throughputs}
        for name in (
            "pipeline",
            "without recording",
            "without sweep",
            "with 10 viewers",
            "per message",
            "with a rate of 4,000/s",
            "largest run",
        ):
            run = throughputs.pop(name)
            roles = ROLES | ({"database"} if is_postgresql else set())
            assert run.cpu.keys() - {"live page"} == roles, name
            assert all(used.low > 0 for used in run.cpu.values()), (name, run.cpu)
            counters = (run.wal, run.commits, run.dead_tuples)
            assert all((counter is not None) == is_postgresql for counter in counters)
            assert all(counter is None or counter.low > 0 for counter in counters)
        assert throughputs.keys() == {
            "floor",
            "schema floor",
            "loading candidates",
            "judging candidates",
            "receipts",
            "moves",
            "events recorded",
        }
        assert all(throughput.cpu["driver"].low > 0 for throughput in throughputs.values())


def test_file_conforms_to_its_schema(bench_file: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(bench_file.read_text().replace('"rate"', '"speed"'))
    command = [sys.executable, "-m", "check_jsonschema"]
    command += ["--schemafile", str(ROOT / "docs" / "bench.schema.json")]
    codes = [
        subprocess.run([*command, str(file)], capture_output=True, check=False).returncode
        for file in (bench_file, wrong)
    ]
    assert codes == [0, 1]


def test_file_beside_itself_has_no_difference(bench_file: Path) -> None:
    ended = run_make("bench-compare", f"OLD={bench_file}", f"NEW={bench_file}", settings={})
    assert ended.returncode == 0, ended.stderr
    assert "no difference beyond the spread\n" in ended.stdout


def test_each_measure_is_documented_with_its_target(result: BenchmarkResult) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    section = page.partition("| measure |")[2].partition("\n## ")[0]
    rows = [row.strip("| ").split(" | ") for row in section.splitlines() if row.startswith("| ")]
    targets = {row[0]: row[2] if len(row) == 3 else "" for row in rows}
    for measured in result.databases:
        for line in measured.lines:
            [name] = [name for name in targets if line.measure.startswith(name)]
            assert line.target in targets[name].split(", "), line
            assert bool(line.target) == bool(targets[name]), line
