"""Run the fault matrix: each row is a run of `sendtrace simulate` in which something goes wrong.

A row passes if the fault met the run, every message settled as predicted, no message was lost, and
the gateway accepted none twice. Prints a table to stdout and writes all outcomes to a JSON file.
Exit codes: 0 all passed, 3 a row failed, 130 interrupted.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

from fault_matrix.rows import FAULT_ROWS
from fault_matrix.runs import FaultRunOutcome, RowRun, perform_run
from tracker.commands import EXIT_INVARIANT_VIOLATED
from tracker.output.tables import Row, RowFormat, format_rows

DATABASES = ("sqlite", "postgresql")


def main() -> None:
    """Run the rows, print the table and write the file."""
    options = _parse_options()
    runs = [
        RowRun(row=row, database=database, seed=seed, messages=options.messages)
        for database in options.database or DATABASES
        for row in FAULT_ROWS
        if options.only in row.name and row.only_database in (None, database)
        for seed in range(1, options.seeds + 1)
    ]
    if not runs:
        sys.exit(f"--only {options.only}: no such row; expected a part of a row's name")
    outcomes: list[FaultRunOutcome] = []
    started_at = time.monotonic()
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(perform_run, run) for run in runs]):
            outcomes.append(future.result())
            minutes = (time.monotonic() - started_at) / 60
            left = minutes / len(outcomes) * (len(runs) - len(outcomes))
            print(
                f"{len(outcomes)} of {len(runs)}: {_describe(outcomes[-1])}; {left:.0f} min left",
                file=sys.stderr,
                flush=True,
            )
            written = json.dumps([outcome.as_json() for outcome in outcomes], indent=2)
            options.json.write_text(written + "\n")
    outcomes.sort(key=lambda outcome: runs.index(outcome.run))
    groups = groupby(outcomes, lambda outcome: (outcome.run.row.name, outcome.run.database))
    rows = [_summarize(name, database, list(group)) for (name, database), group in groups]
    print(format_rows(rows, list(rows[0]), RowFormat.TABLE))
    if not all(outcome.passed for outcome in outcomes):
        sys.exit(EXIT_INVARIANT_VIOLATED)


def _describe(outcome: FaultRunOutcome) -> str:
    run = outcome.run
    verdict = "skipped" if outcome.skipped else "passed" if outcome.passed else "FAILED"
    line = f"{run.row.name}, {run.database}, seed {run.seed}: {verdict} in {outcome.seconds:.0f} s"
    return line if outcome.passed else f"{line}\n{outcome.output}"


def _summarize(name: str, database: str, outcomes: Sequence[FaultRunOutcome]) -> Row:
    """Return the table's row of a fault: sums over its seeds, and the longest recovery."""
    performed = [outcome for outcome in outcomes if outcome.skipped is None]
    recoveries = [outcome.recovery for outcome in outcomes if outcome.recovery is not None]
    return {
        "fault": name,
        "database": database,
        "runs": len(performed),
        "passed": sum(outcome.passed for outcome in performed),
        "lost": sum(outcome.record.lost for outcome in outcomes),
        "twice": sum(outcome.record.accepted_twice for outcome in outcomes),
        "repeats": sum(outcome.record.repeats for outcome in outcomes),
        "re-queued": sum(outcome.record.requeued_count for outcome in outcomes),
        "recovery": f"{max(recoveries):.1f} s" if recoveries else "–",
        "skipped": outcomes[0].skipped,
    }


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fault_matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each row (3)")
    parser.add_argument(
        "--messages", type=int, default=20_000, metavar="N", help="messages of each run (20,000)"
    )
    parser.add_argument(
        "--database", choices=DATABASES, action="append", help="kind of database (both)"
    )
    parser.add_argument(
        "--only", default="", metavar="WORD", help="run the rows that have WORD in their name"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="runs at once (2); a run mostly waits"
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("faults.json"),
        metavar="FILE",
        help="where to write all outcomes (faults.json)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
