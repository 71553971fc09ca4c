"""The fault matrix: ``python -m fault_matrix``, or ``make faults``.

Each row is a run of the real command in which something goes wrong. It has passed if every message
settled as predicted, nothing was lost, and the gateway took nothing twice. A table on stdout, and
everything in ``faults.json``.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from fault_matrix.rows import FAULT_ROWS
from fault_matrix.runs import FaultRunOutcome, run_row


def run_named_row(name: str, kind: str, seed: int, messages: int) -> FaultRunOutcome:
    """Play the row of a name in a folder of its own."""
    [row] = [each for each in FAULT_ROWS if each.name == name]
    with tempfile.TemporaryDirectory(prefix="st-faults-") as folder:
        return run_row(row, kind, seed, messages, Path(folder))


HEADINGS = (
    "fault",
    "database",
    "runs",
    "passed",
    "lost",
    "twice",
    "repeats",
    "sent on",
    "recovery",
)


def format_table(outcomes: Sequence[FaultRunOutcome]) -> str:
    """A line for each row and database; of several seeds the sum, and the longest recovery."""
    lines: list[tuple[str, ...]] = [HEADINGS]
    for name, kind in dict.fromkeys((each.row, each.database) for each in outcomes):
        those = [each for each in outcomes if (each.row, each.database) == (name, kind)]
        skipped = next((each.skipped for each in those if each.skipped), None)
        if skipped is not None:
            if not skipped.startswith("for "):
                lines.append((name, kind, f"skipped: {skipped}", *[""] * 6))
            continue
        recoveries = [each.recovery for each in those if each.recovery is not None]
        lines.append(
            (
                name,
                kind,
                str(len(those)),
                f"{sum(each.passed for each in those)}",
                f"{sum(each.lost for each in those):,}",
                f"{sum(each.accepted_twice for each in those):,}",
                f"{sum(each.repeats for each in those):,}",
                f"{sum(each.sent_on for each in those):,}",
                f"{max(recoveries):.1f} s" if recoveries else "–",
            )
        )
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fault_matrix", description=__doc__.split("\n\n")[1]
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each row")
    parser.add_argument("--messages", type=int, default=20_000, metavar="N", help="of each run")
    parser.add_argument(
        "--database", choices=("sqlite", "postgresql"), action="append", help="default: both"
    )
    parser.add_argument("--only", metavar="WORD", help="rows with this in their name")
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="runs at once (2); a run mostly waits"
    )
    parser.add_argument("--json", type=Path, default=Path("faults.json"), metavar="FILE")
    told = parser.parse_args()
    rows = [row for row in FAULT_ROWS if told.only is None or told.only in row.name]
    if not rows:
        parser.error(f"--only {told.only}: no row has that in its name")
    plays = [
        (row.name, kind, seed)
        for kind in told.database or ("sqlite", "postgresql")
        for row in rows
        for seed in range(1, told.seeds + 1)
        if row.only in (None, kind)
    ]
    outcomes: list[FaultRunOutcome] = []
    began = time.monotonic()
    with ProcessPoolExecutor(told.jobs, get_context("spawn")) as pool:
        runs = [pool.submit(run_named_row, *each, told.messages) for each in plays]
        for place, each in enumerate(as_completed(runs), 1):
            outcome = each.result()
            outcomes.append(outcome)
            left = (time.monotonic() - began) / place * (len(plays) - place)
            word = "skipped" if outcome.skipped else "passed" if outcome.passed else "FAILED"
            print(
                f"{place} of {len(plays)}  {outcome.row}, {outcome.database}, seed {outcome.seed}:"
                f" {word} in {outcome.seconds:.0f} s (about {left / 60:.0f} min left)",
                file=sys.stderr,
                flush=True,
            )
            if not outcome.passed:
                print(outcome.told, file=sys.stderr, flush=True)
            told.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=2) + "\n")
    order = [row.name for row in FAULT_ROWS]
    outcomes.sort(key=lambda each: (each.database != "sqlite", order.index(each.row), each.seed))
    print(format_table(outcomes))
    if not all(each.passed for each in outcomes):
        sys.exit(3)


if __name__ == "__main__":
    main()
