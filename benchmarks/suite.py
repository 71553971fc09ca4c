"""All parts of the benchmark, on one kind of database after the other."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks.context import DatabaseBenchmark
from benchmarks.databases import DATABASES, postmaster_file, start_server
from benchmarks.in_process import measure_receipts
from benchmarks.largest import measure_largest_run
from benchmarks.meter import Meter
from benchmarks.results import DatabaseResult, Sizes
from benchmarks.rollups import measure_rollups
from benchmarks.rounds import measure_rounds
from tracker.store.database import connect


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
    """Measure all parts on one kind of database, one after the other.

    Args:
        root: the process that started the benchmark.
    """
    home = folder / database
    home.mkdir()
    with start_server(database, home) as server:
        meter = Meter(
            root=root,
            postmasters=[postmaster_file(folder / name) for name in DATABASES],
            measured_postmaster=postmaster_file(home),
            read_wal=server.read_wal,
        )
        bench = DatabaseBenchmark(
            database=database,
            sizes=sizes,
            folder=home,
            create_database=server.create_database,
            meter=meter,
        )
        with server.create_database() as url, closing(connect(url)) as opened:
            settings = opened.read_durability_settings()
        for measure in (measure_rounds, measure_largest_run, measure_receipts, measure_rollups):
            measure(bench)
    return DatabaseResult(
        database=database,
        settings=dict(settings),
        throughputs=bench.throughputs,
        lines=bench.lines,
        warnings=bench.warnings,
    )
