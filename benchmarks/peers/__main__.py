"""Compare sendtrace with Celery, Dramatiq and procrastinate, in one run on PostgreSQL.

Prints progress to stderr and a table to stdout, and writes all figures to a JSON file.
docs/peers.md explains the table. A run that loses messages isn't an error; its row says so.
Exit codes: 0 measured, 1 a system failed, 130 interrupted.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.context import FULL_SIZES, DatabaseBenchmark
from benchmarks.databases import DatabaseServer, postmaster_file, start_server
from benchmarks.meter import Meter
from benchmarks.peers.result import Comparison, Form, format_comparison, write_page_table
from benchmarks.peers.runs import run_system
from benchmarks.peers.systems import PEERS, SENDTRACE, SYSTEMS
from benchmarks.pipeline import BenchmarkRunFailed
from simulator.cli.signals import EXIT_INTERRUPTED
from simulator.run import environment
from simulator.stack.local import LocalBroker, start_local_broker
from tracker.store.database import connect

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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` stops it as Ctrl-C does
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sendtrace-peers-") as name, ExitStack() as stack:
        folder = Path(name)
        machine = environment.describe_machine(folder)
        server = stack.enter_context(start_server("postgresql", folder))
        broker = stack.enter_context(start_local_broker())
        bench = _make_benchmark(server, folder)
        measure_forms(bench, broker, forms, rounds)
        with server.create_database() as url, closing(connect(url)) as database:
            settings = dict(database.read_durability_settings())
    comparison = Comparison(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started_at, 1),
        rounds=rounds,
        machine=machine,
        versions=environment.read_versions() | {peer: version(peer) for peer in PEERS},
        settings=settings,
        warnings=bench.warnings,
        forms=forms,
    )
    text = json.dumps(comparison.as_json(), indent=2, ensure_ascii=False)
    options.json.write_text(text + "\n", encoding="utf-8")
    if options.page:
        write_page_table(options.page, comparison)
    print(format_comparison(comparison))


def _make_benchmark(server: DatabaseServer, folder: Path) -> DatabaseBenchmark:
    postmaster = postmaster_file(folder)
    return DatabaseBenchmark(
        database="postgresql",
        sizes=FULL_SIZES,
        folder=folder,
        create_database=server.create_database,
        meter=Meter(
            root=os.getpid(),
            postmasters=[postmaster],
            measured_postmaster=postmaster,
            read_wal=server.read_wal,
        ),
    )


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
    """Add a run to each form in each round.

    Every second round is in reverse order (ABBA), so a slow phase of the machine favours nobody.
    """
    for number in range(rounds):
        for form in forms if number % 2 == 0 else reversed(forms):
            with closing(broker.client()) as client:
                client.flushall()
            with bench.create_database() as url:
                run = run_system(
                    bench,
                    form.system,
                    url=url,
                    broker_url=broker.url,
                    messages=form.messages,
                    batch_size=form.batch_size,
                )
            form.runs.append(run)
            bench.log(
                f"round {number + 1}: {form.system}, {form.batch_size:,} a task:"
                f" {run.complete:,} of {run.messages:,} complete, {run.cost.seconds:.2f} s"
            )


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small sizes: shows that it works, not how fast")
    add(
        "--json",
        type=Path,
        metavar="FILE",
        default=Path("peers.json"),
        help="where to write the figures (peers.json)",
    )
    add("--page", type=Path, metavar="FILE", help="replace the table of a page: docs/peers.md")
    add("--only", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="systems to measure (all)")
    add("--rounds", type=int, metavar="N", help=f"rounds ({FULL_ROUNDS}; 1 with --quick)")
    add(
        "--messages",
        type=int,
        metavar="N",
        help=f"messages of a run in batches ({FULL_MESSAGES:,})",
    )
    add(
        "--batch-sizes",
        type=int,
        nargs="+",
        metavar="N",
        default=BATCH_SIZES,
        help="messages per task (1 1000 10000)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except BenchmarkRunFailed as failure:
        sys.exit(f"benchmarks.peers: {failure}")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
