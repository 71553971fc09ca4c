"""All parts of the benchmark, on one kind of database after the other."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.databases import open_benchmark
from benchmarks.in_process import measure_receipts
from benchmarks.largest import measure_largest_run
from benchmarks.results import DatabaseResult, Sizes
from benchmarks.rollups import measure_rollups
from benchmarks.rounds import measure_rounds


def measure_databases(
    databases: Sequence[str], folder: Path, sizes: Sizes
) -> Iterator[DatabaseResult]:
    """Measure on kinds of database at once, each in a process of its own; yield their figures."""
    context = multiprocessing.get_context("spawn")
    measure = partial(_measure_database, folder=folder, sizes=sizes, root=os.getpid())
    with ProcessPoolExecutor(len(databases), context, _accept_stop) as pool:
        try:
            yield from pool.map(measure, databases)
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _accept_stop() -> None:
    """Leave Ctrl-C to the parent process, so that it doesn't interrupt the clean-up."""
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _measure_database(database: str, folder: Path, sizes: Sizes, root: int) -> DatabaseResult:
    """Measure all parts on one kind of database, one after the other."""
    with open_benchmark(database, folder, sizes, root) as bench:
        for measure in (measure_rounds, measure_largest_run, measure_receipts, measure_rollups):
            measure(bench)
    return DatabaseResult(
        database=database,
        settings=dict(bench.settings),
        throughputs=bench.throughputs,
        lines=bench.lines,
        warnings=bench.warnings,
    )
