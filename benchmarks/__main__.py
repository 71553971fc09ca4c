"""Measure the pipeline beside its floors, on SQLite and on PostgreSQL.

Prints progress to stderr and two tables to stdout, and writes all figures to a JSON file as soon as
a database is done. docs/benchmarks.md explains each line. A missed target isn't an error.
Exit codes: 0 measured, 1 a run failed, 2 a file isn't a result, 130 interrupted.
"""

import argparse
import tempfile
import time
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from benchmarks.command import add_run_options, make_parser, run_command
from benchmarks.context import FULL_SIZES, QUICK_SIZES
from benchmarks.pipeline import WORKER_COUNT
from benchmarks.results import (
    DATABASES,
    FORMAT_VERSION,
    BenchmarkResult,
    DatabaseResult,
    read_result,
)
from benchmarks.suite import measure_databases
from benchmarks.tables import format_markdown, format_result
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from simulator.run import environment


def main() -> None:
    """Measure, print the tables and write the file."""
    options = _parse_options()
    if options.table is not None:
        print(format_markdown(read_result(options.table)))
        return
    sizes = QUICK_SIZES if options.quick else FULL_SIZES
    given = {"rounds": options.rounds, "pipeline": options.messages}
    sizes = sizes.model_copy(update={name: size for name, size in given.items() if size})
    databases = [options.only] if options.only else [*DATABASES]
    # A quick run shows that each part works, not how fast; so it measures both databases at once.
    groups = [databases] if options.quick else [[database] for database in databases]
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
    parser = make_parser("benchmarks", __doc__)
    add_run_options(
        parser, file="bench.json", rounds=FULL_SIZES.rounds, messages=FULL_SIZES.pipeline
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="print the main figures of a file as the table of docs/benchmarks.md; measure nothing",
    )
    parser.add_argument("--only", choices=DATABASES, help="measure on one kind of database")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, "benchmarks")
