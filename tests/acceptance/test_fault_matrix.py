"""Short form of the fault matrix: each row once, on SQLite. `make faults` runs the whole matrix."""

import pytest

from fault_matrix.rows import FAULT_ROWS, FaultRow
from fault_matrix.runs import RowRun, perform_run

MESSAGES = 4_000
"""Two seconds of arrivals."""

ROWS = [row for row in FAULT_ROWS if row.only_database != "postgresql"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_no_message_is_lost_or_accepted_twice(row: FaultRow) -> None:
    outcome = perform_run(RowRun(row=row, database="sqlite", seed=1, messages=MESSAGES))
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.hit, f"the fault did not hit the run\n{outcome.output}"
    assert outcome.passed, outcome.output or outcome
    assert (outcome.record.lost, outcome.record.accepted_twice) == (0, 0)
    assert outcome.record.messages >= MESSAGES
