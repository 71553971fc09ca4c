"""Compare sendtrace with Celery, Dramatiq and procrastinate, in one run on PostgreSQL.

Prints progress to stderr and a table to stdout, and writes all figures to a JSON file.
docs/peers.md explains the table. A run that loses messages isn't an error; its row says so.
Exit codes: 0 measured, 1 a system failed, 130 interrupted.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.command import add_run_options, make_parser, parse_positive_int, run_command
from benchmarks.context import FULL_SIZES, DatabaseBenchmark
from benchmarks.databases import open_benchmark
from benchmarks.meter import order_turn
from benchmarks.peers.result import Comparison, format_comparison, write_page_table
from benchmarks.peers.runs import Form, run_form
from benchmarks.peers.systems import PEERS, SENDTRACE, SYSTEMS
from simulator.run import environment
from simulator.stack.local import LocalBroker, start_local_broker

BATCH_SIZES = (1, 1_000, 10_000)

FULL_ROUNDS = 3
QUICK_ROUNDS = 1

FULL_MESSAGES = 200_000
QUICK_MESSAGES = 10_000
"""Messages of a run in batches, the same for each system."""

FULL_SINGLE_MESSAGES = {SENDTRACE: 200, **dict.fromkeys(PEERS, 2_000)}
QUICK_SINGLE_MESSAGES = {SENDTRACE: 20, **dict.fromkeys(PEERS, 100)}
"""Messages of a run with one message per task: fewer, since each message takes much longer."""


def main() -> None:
    """Compare, print the table and write the files."""
    options = _parse_options()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else FULL_ROUNDS)
    forms = list_forms(options)
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sendtrace-peers-") as name:
        folder = Path(name)
        machine = environment.describe_machine(folder)
        with (
            open_benchmark("postgresql", folder, FULL_SIZES, os.getpid()) as bench,
            start_local_broker() as broker,
        ):
            measure_forms(bench, broker, forms, rounds)
    comparison = Comparison(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started_at, 1),
        rounds=rounds,
        machine=machine,
        versions=environment.read_versions() | {peer: version(peer) for peer in PEERS},
        settings=bench.settings,
        warnings=bench.warnings,
        forms=forms,
    )
    text = json.dumps(comparison.as_json(), indent=2, ensure_ascii=False)
    options.json.write_text(text + "\n", encoding="utf-8")
    if options.page:
        write_page_table(options.page, comparison)
    print(format_comparison(comparison))


def list_forms(options: argparse.Namespace) -> list[Form]:
    """Return the forms to measure, without runs."""
    singles = QUICK_SINGLE_MESSAGES if options.quick else FULL_SINGLE_MESSAGES
    batched = options.messages or (QUICK_MESSAGES if options.quick else FULL_MESSAGES)
    return [
        Form(
            system=system,
            batch_size=batch_size,
            messages=singles[system] if batch_size == 1 else batched,
        )
        for batch_size in options.batch_sizes
        for system in options.only
    ]


def measure_forms(
    bench: DatabaseBenchmark, broker: LocalBroker, forms: Sequence[Form], rounds: int
) -> None:
    """Add a run to each form in each round."""
    for number in range(rounds):
        for form in order_turn(forms, number):
            with closing(broker.client()) as client:
                client.flushall()
            run = run_form(bench, form, broker.url)
            form.runs.append(run)
            bench.log(
                f"round {number + 1}: {form.name}: {run.complete:,} of {form.messages:,} complete,"
                f" {run.cost.seconds:.2f} s"
            )


def _parse_options() -> argparse.Namespace:
    parser = make_parser("benchmarks.peers", __doc__)
    add_run_options(parser, file="peers.json", rounds=FULL_ROUNDS, messages=FULL_MESSAGES)
    add = parser.add_argument
    add("--page", type=Path, metavar="FILE", help="replace the table of a page: docs/peers.md")
    add("--only", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="systems to measure (all)")
    add(
        "--batch-sizes",
        type=parse_positive_int,
        nargs="+",
        metavar="N",
        default=BATCH_SIZES,
        help="messages per task (1 1000 10000)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, "benchmarks.peers")
