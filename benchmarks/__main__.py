"""Measure the pipeline beside its floors, on SQLite and on PostgreSQL.

Prints progress to stderr and two tables to stdout, and writes all figures to a JSON file as soon as
a database is done. docs/benchmarks.md explains each line. A missed target isn't an error.
Exit codes: 0 measured, 1 a run failed, 2 a file isn't a result, 130 interrupted.
"""

import argparse
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from benchmarks.context import FULL_SIZES, QUICK_SIZES
from benchmarks.databases import DATABASES
from benchmarks.pipeline import WORKER_COUNT, BenchmarkRunFailed
from benchmarks.results import (
    EXIT_INVALID_RESULT,
    FORMAT_VERSION,
    BenchmarkResult,
    DatabaseResult,
    InvalidResult,
    read_result,
)
from benchmarks.suite import measure_databases
from benchmarks.tables import format_markdown, format_result
from simulator.cli.signals import EXIT_INTERRUPTED
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from simulator.run import environment


def main() -> None:
    """Measure, print the table and write the file."""
    options = _parse_options()
    if options.table is not None:
        print(format_markdown(read_result(options.table)))
        return
    sizes = QUICK_SIZES if options.quick else FULL_SIZES
    wanted = {"rounds": options.rounds, "pipeline": options.messages}
    sizes = sizes.model_copy(update={name: size for name, size in wanted.items() if size})
    databases = [options.only] if options.only else DATABASES
    # A quick run shows that each part works, not how fast; so it measures both databases at once.
    groups = [databases] if options.quick else [[database] for database in databases]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` stops it as Ctrl-C does
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sendtrace-bench-") as name:
        folder = Path(name)
        machine = environment.describe_machine(folder) | environment.read_versions()
        measured: list[DatabaseResult] = []
        for figures in chain.from_iterable(
            measure_databases(group, folder, sizes) for group in groups
        ):
            measured.append(figures)
            result = BenchmarkResult(
                version=FORMAT_VERSION,
                made_at=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=round(time.monotonic() - started_at, 1),
                machine=machine,
                workers=WORKER_COUNT,
                batch_size=DEFAULT_BATCH_SIZE,
                sizes=sizes,
                databases=measured,
            )
            options.json.write_text(result.model_dump_json(indent=2) + "\n")
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
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="print the main figures of a file as the table of docs/benchmarks.md; measure nothing",
    )
    parser.add_argument("--only", choices=DATABASES, help="measure on one kind of database")
    parser.add_argument(
        "--rounds",
        type=_parse_positive_int,
        metavar="N",
        help=f"rounds whose medians are shown ({FULL_SIZES.rounds}; 1 with --quick)",
    )
    parser.add_argument(
        "--messages",
        type=_parse_positive_int,
        metavar="N",
        help=f"messages of each run in a round ({FULL_SIZES.pipeline:,};"
        f" {QUICK_SIZES.pipeline:,} with --quick)",
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
    except InvalidResult as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(EXIT_INVALID_RESULT)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
