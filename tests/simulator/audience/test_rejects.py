"""The rejects file of an import, and the limit of rejected rows."""

import csv
from pathlib import Path

import pytest

from simulator.audience.formats import AudienceFile, AudienceSection
from simulator.audience.problems import ProblemCounts, RejectCause
from simulator.audience.reader import RejectedRow
from simulator.audience.rejects import RejectFile, TooManyRejects, check_rejects
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


def allowing(max_rejects: float | None) -> AudienceFile:
    """Return a file with a limit of rejected rows."""
    section = AudienceSection(file="crm.csv").model_copy(update={"max_rejects": max_rejects})
    return AudienceFile.in_folder(Path(), section)


def count_rows(rows: int, rejects: int) -> ProblemCounts:
    counts = ProblemCounts()
    counts.rows = rows
    for line in range(rejects):
        counts.add_reject(RejectCause.MISSING_ID, line + 2, "missing")
    return counts


@pytest.mark.parametrize(
    ("rows", "rejects", "max_rejects"),
    [
        (100, 10, None),
        (5, 1, None),
        (2, 1, None),
        (100, 1, 0.01),
        (4, 1, 0.25),
        (100, 0, 0.0),
        (3, 2, 1.0),
    ],
)
def test_rejects_within_the_limit(rows: int, rejects: int, max_rejects: float | None) -> None:
    check_rejects(allowing(max_rejects), count_rows(rows, rejects))


@pytest.mark.parametrize(
    ("rows", "rejects", "max_rejects"),
    [
        (100, 11, None),
        (5, 2, None),
        (1, 1, None),
        (1, 1, 1.0),
        (100, 2, 0.01),
        (5, 1, 0.1),
        (100, 1, 0.0),
        (0, 0, None),
    ],
)
def test_rejects_above_the_limit(rows: int, rejects: int, max_rejects: float | None) -> None:
    with pytest.raises(TooManyRejects):
        check_rejects(allowing(max_rejects), count_rows(rows, rejects))


def test_the_error_names_causes_counts_first_lines_and_the_rejects_file() -> None:
    counts = count_rows(40, 2)
    counts.add_reject(RejectCause.ENCODING, 9, "got the byte 0xEB")
    with pytest.raises(TooManyRejects) as raised:
        check_rejects(allowing(0.01), counts, Path("x.rejects.csv"))
    assert str(raised.value).splitlines() == [
        "crm.csv: 3 of 40 rows (7.5 %) could not be read; expected at most 1 % (max_rejects)",
        "  encoding: 1 row, the first in line 9: got the byte 0xEB",
        "  missing_id: 2 rows, the first in line 2: missing",
        "see x.rejects.csv",
    ]
