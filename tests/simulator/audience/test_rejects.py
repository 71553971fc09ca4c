"""The rejects file of an import, and the limit of rejected rows."""

import csv
from pathlib import Path

import pytest

from simulator.audience.problems import RejectCause
from simulator.audience.reader import RejectedRow
from simulator.audience.rejects import RejectFile
from tracker.errors import UsageError


def test_the_rejects_file_is_created_with_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "rejects.csv"
    with RejectFile(path) as file:
        assert (file.count, path.exists()) == (0, False)
        file.add(RejectedRow(2, RejectCause.UNBALANCED_QUOTE, "broken, badly", 'C1,"Zo\udceb'))
        file.add(RejectedRow(9, RejectCause.CELL_COUNT, "torn", "C2,a\r\nb\rc"))
        assert file.count == 2
    with path.open(encoding="utf-8", newline="") as written:
        assert list(csv.reader(written)) == [
            ["line", "cause", "row"],
            ["2", "broken, badly", 'C1,"Zo\\udceb'],
            ["9", "torn", "C2,a\r\nb\rc"],
        ]


def test_without_rejected_rows_there_is_no_file(tmp_path: Path) -> None:
    with RejectFile(tmp_path / "rejects.csv") as file:
        pass
    assert (file.count, list(tmp_path.iterdir())) == (0, [])


def test_a_rejects_file_that_can_not_be_created(tmp_path: Path) -> None:
    with (
        RejectFile(tmp_path / "nowhere" / "rejects.csv") as file,
        pytest.raises(UsageError, match=r"can't write rejected rows: No such file"),
    ):
        file.add(RejectedRow(2, RejectCause.CELL_COUNT, "torn", "C1"))
