"""Measure the pipeline against its floor, on SQLite and on PostgreSQL.

Prints progress to stderr and a table to stdout, and writes all figures to a JSON file as soon as a
database is done. docs/benchmarks.md explains each line. A missed target isn't an error.
Exit codes: 0 measured, 1 a run failed, 130 interrupted.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.context import FULL_SIZES, QUICK_SIZES
from benchmarks.databases import DATABASES
from benchmarks.pipeline import WORKER_COUNT, BenchmarkRunFailed
from benchmarks.suite import format_result, measure_databases
from simulator.cli.signals import EXIT_INTERRUPTED
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from simulator.run import environment

FORMAT_VERSION = 1
"""Version of the JSON file. It changes when a key changes its meaning or goes."""


def main() -> None:
    """Measure, print the table and write the file."""
    options = _parse_options()
    sizes = (QUICK_SIZES if options.quick else FULL_SIZES).copy()
    sizes["rounds"] = options.rounds or sizes["rounds"]
    sizes["pipeline"] = options.messages or sizes["pipeline"]
    databases = [options.only] if options.only else DATABASES
    # A quick run shows that each part works, not how fast; so it measures both databases at once.
    groups = [databases] if options.quick else [[database] for database in databases]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` stops it as Ctrl-C does
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sendtrace-bench-") as name:
        folder = Path(name)
        result: dict[str, Any] = {
            "version": FORMAT_VERSION,
            "machine": environment.describe_machine(folder) | environment.read_versions(),
            "workers": WORKER_COUNT,
            "batch_size": DEFAULT_BATCH_SIZE,
            "sizes": sizes,
            "databases": [],
        }
        for figures in chain.from_iterable(
            measure_databases(group, folder, sizes) for group in groups
        ):
            result["databases"].append(figures)
            result["made_at"] = datetime.now(UTC).isoformat(timespec="seconds")
            result["seconds"] = round(time.monotonic() - started_at, 1)
            options.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(format_result(result))


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
        help=f"messages of each run in a round ({FULL_SIZES['pipeline']:,};"
        f" {QUICK_SIZES['pipeline']:,} with --quick)",
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
