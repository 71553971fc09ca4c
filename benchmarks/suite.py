"""All parts of the benchmark, and its result as a table."""

import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.context import FULL_SIZES, BenchmarkSizes, DatabaseBenchmark
from benchmarks.databases import start_database
from benchmarks.largest import measure_largest_run
from benchmarks.measures import format_line
from benchmarks.receipts import measure_receipts
from benchmarks.rollups import measure_rollups
from benchmarks.throughput import measure_throughput
from tracker.output.tables import RowFormat, format_rows
from tracker.store.database import connect


def measure_databases(
    databases: Sequence[str], folder: Path, sizes: BenchmarkSizes
) -> Iterator[dict[str, Any]]:
    """Measure on kinds of database at once, each in a process of its own; yield their figures."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(databases), context, _accept_stop) as pool:
        try:
            yield from pool.map(partial(_measure_database, folder=folder, sizes=sizes), databases)
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _accept_stop() -> None:
    """Leave Ctrl-C to the parent process, so that it doesn't interrupt the clean-up."""
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _measure_database(database: str, folder: Path, sizes: BenchmarkSizes) -> dict[str, Any]:
    """Measure all parts on one kind of database, one after the other."""
    home = folder / database
    home.mkdir()
    with start_database(database, home) as create_database:
        bench = DatabaseBenchmark(
            database=database, sizes=sizes, folder=home, create_database=create_database
        )
        with create_database() as url, closing(connect(url)) as opened:
            bench.figures["settings"] = opened.read_durability_settings()
        for measure in (measure_throughput, measure_largest_run, measure_receipts, measure_rollups):
            measure(bench)
    return {"database": database, **bench.figures, "reports": bench.reports, "lines": bench.lines}


def format_result(result: Mapping[str, Any]) -> str:
    """Return the table of a result, and the conditions that it was measured under."""
    rows = [format_line(line) for measured in result["databases"] for line in measured["lines"]]
    conditions = {"machine": result["machine"]}
    conditions |= {measured["database"]: measured["settings"] for measured in result["databases"]}
    notes = [f"measured in {result['seconds']:.0f} s; docs/benchmarks.md explains each line"]
    if result["sizes"] != FULL_SIZES:
        notes.append("smaller sizes than a full benchmark: these figures say little")
    return "\n".join(
        [
            format_rows(rows, list(rows[0]), RowFormat.TABLE),
            "",
            *(
                f"{name}: {', '.join(f'{key} {value}' for key, value in values.items())}"
                for name, values in conditions.items()
            ),
            *notes,
        ]
    )
