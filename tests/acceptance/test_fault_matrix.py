"""The short form of the fault matrix: each row once, on SQLite. `make faults` is the long one."""

from pathlib import Path

import pytest

from fault_matrix.rows import FAULT_ROWS, FaultRow
from fault_matrix.runs import run_row

MESSAGES = 4_000
"""Two seconds of arrivals."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "row", [each for each in FAULT_ROWS if each.only != "postgresql"], ids=lambda row: row.name
)
def test_nothing_is_lost_and_nothing_sent_twice(
    row: FaultRow, scratch: Path, tmp_path: Path
) -> None:
    outcome = run_row(row, "sqlite", 1, MESSAGES, tmp_path)
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.passed, outcome.told or outcome
    assert outcome.hit, "the fault met the run"
    assert (outcome.lost, outcome.accepted_twice) == (0, 0)
    assert outcome.settled == outcome.messages >= MESSAGES
