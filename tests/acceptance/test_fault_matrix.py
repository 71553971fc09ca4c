"""Short form of the fault matrix, on SQLite. `make faults` has a run of its own for each row."""

from collections.abc import Sequence
from itertools import chain

import pytest

from fault_matrix.record import RecordCounts
from fault_matrix.rows import FAULT_ROWS, FaultRow, ResultJson
from fault_matrix.runs import RowRun, perform_run

MESSAGES = 4_000
"""Two seconds of arrivals."""

COMBINED_ROWS = (
    ("pool process killed, 5 times", "broker restarted"),
    ("worker restarted, twice", "clock put forward 1 h"),
    ("5 % of tasks twice", "gateway 10 times slower", "gateway refuses 30 %"),
)
"""Rows that share a run. Each of them has its own evidence there, see `FaultRow.evidence`."""

OMITTED_ROWS = {
    "nothing",  # test_make.py runs it
    "broker flushed",  # the row with sweeps at once has the same fault
}


def combine(rows: Sequence[FaultRow]) -> FaultRow:
    """Return a row with the faults of several, of which none disturbs the run from outside."""

    def has_evidence(record: RecordCounts, result: ResultJson) -> bool:
        return all(row.evidence is None or row.evidence(record, result) for row in rows)

    return FaultRow(
        " + ".join(row.name for row in rows),
        faults=tuple(chain.from_iterable(row.faults for row in rows)),
        gateway="\n".join(row.gateway for row in rows),
        evidence=has_evidence,
        lasts_to_end=any(row.lasts_to_end for row in rows),
        arrival_seconds=max(row.arrival_seconds or 0 for row in rows) or None,
    )


def list_rows() -> list[FaultRow]:
    rows = {row.name: row for row in FAULT_ROWS if row.only_database != "postgresql"}
    combined = [combine([rows.pop(name) for name in names]) for names in COMBINED_ROWS]
    for name in OMITTED_ROWS:
        del rows[name]
    return [*combined, *rows.values()]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", list_rows(), ids=lambda row: row.name)
def test_no_message_is_lost_or_accepted_twice(row: FaultRow) -> None:
    outcome = perform_run(RowRun(row=row, database="sqlite", seed=1, messages=MESSAGES))
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.hit, f"the fault did not hit the run\n{outcome.output}"
    assert outcome.passed, outcome.output or outcome
    assert (outcome.record.lost, outcome.record.accepted_twice) == (0, 0)
    assert outcome.record.messages >= MESSAGES
