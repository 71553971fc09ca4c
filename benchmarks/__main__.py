"""Measure the pipeline against its floor, on SQLite and on PostgreSQL.

Prints progress to stderr and a table to stdout, and writes all figures to a JSON file as soon as a
database is done. docs/benchmarks.md explains each line. A missed target is no error.
Exit codes: 0 measured, 1 a run failed, 130 interrupted.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import psutil

from benchmarks.context import (
    FULL_SIZES,
    QUICK_SIZES,
    DatabaseFigures,
)
from benchmarks.databases import DATABASES
from benchmarks.pipeline import BenchmarkRunFailed
from benchmarks.suite import as_json, format_figures, measure_database
from simulator.cli.signals import EXIT_INTERRUPTED
from simulator.run import environment


def main() -> None:
    """Measure, print the table and write the file."""
    options = _parse_options()
    sizes = QUICK_SIZES if options.quick else FULL_SIZES
    sizes = replace(
        sizes,
        rounds=options.rounds or sizes.rounds,
        pipeline=options.messages or sizes.pipeline,
    )
    databases = [options.only] if options.only else DATABASES
    # `kill` stops everything that was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    started_at = time.monotonic()
    figures: list[DatabaseFigures] = []
    with tempfile.TemporaryDirectory(prefix="sendtrace-bench-") as folder:
        machine = environment.describe_machine(Path(folder)) | environment.read_versions()
        # A quick run shows that each part works, not how fast; so it measures both databases at once.
        processes = len(databases) if options.quick else 1
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            measure = partial(measure_database, folder=Path(folder), sizes=sizes)
            try:
                for measured in pool.map(measure, databases):
                    figures.append(measured)
                    seconds = time.monotonic() - started_at
                    written = as_json(figures, sizes, machine, seconds)
                    options.output.write_text(
                        json.dumps(written, indent=2, ensure_ascii=False) + "\n"
                    )
            except KeyboardInterrupt:
                for process in psutil.Process().children():
                    process.send_signal(signal.SIGINT)
                raise
    print(format_figures(figures, sizes, machine, seconds))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="measure every part in a small size, both databases at once, in about a minute:"
        " shows that the benchmark works, not how fast the pipeline is",
    )
    parser.add_argument(
        "--output",
        "--json",
        type=Path,
        metavar="FILE",
        default=Path("bench.json"),
        help="where to write the figures (bench.json)",
    )
    parser.add_argument("--only", choices=DATABASES, help="measure on one kind of database")
    parser.add_argument(
        "--rounds",
        type=_parse_positive_int,
        metavar="N",
        help="rounds whose medians are shown (3; 1 with --quick)",
    )
    parser.add_argument(
        "--messages",
        type=_parse_positive_int,
        metavar="N",
        help="messages of each run in a round (200,000; 20,000 with --quick)",
    )
    return parser.parse_args()


def _parse_positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {number}; expected a number above 0")
    return number


if __name__ == "__main__":
    try:
        main()
    except BenchmarkRunFailed as failure:
        sys.exit(f"benchmarks: {failure}")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
