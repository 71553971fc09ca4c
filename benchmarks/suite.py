"""All parts of the benchmark, and its result as a file and as a table."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.context import FULL_SIZES, BenchmarkSizes, DatabaseBenchmark, DatabaseFigures
from benchmarks.databases import start_database
from benchmarks.largest import measure_largest_run
from benchmarks.measures import Json
from benchmarks.pipeline import WORKER_COUNT
from benchmarks.receipts import measure_receipts
from benchmarks.rollups import measure_rollups
from benchmarks.throughput import measure_throughput
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from tracker.output.tables import RowFormat, format_rows
from tracker.store.database import connect

FORMAT_VERSION = 1
"""Version of the JSON file. It changes when a key changes its meaning or goes."""


def measure_database(database: str, folder: Path, sizes: BenchmarkSizes) -> DatabaseFigures:
    """Measure all parts on one kind of database, one after the other."""
    home = folder / database
    home.mkdir()
    with start_database(database, home) as create_database:
        with create_database() as url, closing(connect(url)) as opened:
            figures = DatabaseFigures(database=database, settings=opened.read_durability_settings())
        bench = DatabaseBenchmark(
            figures=figures, sizes=sizes, folder=home, create_database=create_database
        )
        for measure in (measure_throughput, measure_largest_run, measure_receipts, measure_rollups):
            measure(bench)
    return figures


def as_json(
    figures: Sequence[DatabaseFigures],
    sizes: BenchmarkSizes,
    machine: Mapping[str, str],
    seconds: float,
) -> Json:
    """Return all that was measured in `seconds`, as it stands in bench.json."""
    return {
        "version": FORMAT_VERSION,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": machine,
        "workers": WORKER_COUNT,
        "batch_size": DEFAULT_BATCH_SIZE,
        "sizes": sizes.as_json(),
        "databases": [measured.as_json() for measured in figures],
    }


def format_figures(
    figures: Sequence[DatabaseFigures],
    sizes: BenchmarkSizes,
    machine: Mapping[str, str],
    seconds: float,
) -> str:
    """Return the table of all lines, and under it the conditions that they were measured under."""
    rows = [line.as_row(measured.database) for measured in figures for line in measured.lines]
    conditions = [("machine", machine)]
    conditions += [(measured.database, measured.settings) for measured in figures]
    return "\n".join(
        [
            format_rows(rows, list(rows[0]), RowFormat.TABLE),
            "",
            *(
                f"{name}: {', '.join(f'{key} {value}' for key, value in values.items())}"
                for name, values in conditions
            ),
            f"measured in {seconds:.0f} s; docs/benchmarks.md explains each line",
            *(() if sizes == FULL_SIZES else ("not the full sizes: these figures say little",)),
        ]
    )
