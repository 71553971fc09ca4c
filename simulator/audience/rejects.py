"""The rejects file of an audience file, the limit of rejected rows, and the result of an import."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from simulator.audience.formats import AudienceFile
from simulator.audience.problems import Problem, ProblemCounts, RejectCause
from simulator.audience.reader import RejectedRow
from tracker.csv_cells import CsvWriter
from tracker.errors import UsageError
from tracker.text import pluralize

DEFAULT_MAX_REJECTS = 0.1
"""Share of a file's rows that may be left out unless its format says otherwise."""

ALWAYS_ALLOWED_REJECTS = 1
"""Rows that may be left out of any file unless its format says otherwise."""


class TooManyRejects(UsageError):
    """Too many rows of an audience file can't be read.

    Attributes:
        message: the message without the name of the rejects file.
    """

    def __init__(self, message: str, rejects_file: Path | None = None) -> None:
        super().__init__(message if rejects_file is None else f"{message}\nsee {rejects_file}")
        self.message = message


class RejectFile(ExitStack):
    """A CSV file of rejected rows. It is created with the first of them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.count = 0

    def add(self, rejected: RejectedRow) -> None:
        """Write a row; raise `UsageError` if the file can't be created."""
        if not self.count:
            try:
                file = self.path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
            except OSError as error:
                raise UsageError(
                    f"{self.path}: can't write rejected rows: {error.strerror}"
                ) from None
            self._writer = CsvWriter(self.enter_context(file))
            self._writer.write_row(("line", "cause", "row"))
        self._writer.write_row((rejected.line, rejected.message, rejected.text))
        self.count += 1


def check_rejects(
    file: AudienceFile, counts: ProblemCounts, rejects_file: Path | None = None
) -> None:
    """Raise TooManyRejects if a file has no customers, or too many rows that can't be read.

    Args:
        rejects_file: file with the rejected rows, if there is one.
    """
    if not counts.rows:
        raise TooManyRejects(f"{file.path}: no rows; expected customers below the header")
    max_rejects = file.load_format().max_rejects
    share = DEFAULT_MAX_REJECTS if max_rejects is None else max_rejects
    allowed = share * counts.rows
    if max_rejects is None:
        allowed = max(allowed, ALWAYS_ALLOWED_REJECTS)
    if counts.customers and counts.rejects <= allowed:
        return
    rows = pluralize(counts.rows, "row")
    problem = (
        f"{counts.rejects:,} of {rows} ({100 * counts.rejects / counts.rows:.1f} %) could not be"
        f" read; expected at most {100 * share:g} % (max_rejects)"
        if counts.customers
        else f"no row could be read as a customer, of {rows}"
    )
    causes = (
        f"  {cause}: {pluralize(count, 'row')}, the first in line {counts.first_lines[cause]}:"
        f" {counts.first_messages[cause]}"
        for cause in RejectCause
        if (count := counts.by_problem[cause])
    )
    raise TooManyRejects("\n".join((f"{file.path}: {problem}", *causes)), rejects_file)


@dataclass(frozen=True, kw_only=True)
class AudienceImport:
    """The result of an import of an audience file.

    Attributes:
        rows: its rows, customers and rejected ones together.
        problems: counts of its problems.
        rejects_file: file of the rows that were left out; None without any.
    """

    audience: Path
    rows: int
    problems: Mapping[Problem, int]
    rejects_file: Path | None

    @property
    def rejects(self) -> int:
        """Rows that were left out."""
        return sum(self.problems.get(cause, 0) for cause in RejectCause)

    @property
    def summary(self) -> str:
        """One line that names the audience file and its rows that were left out."""
        return f"{self.audience.name}: {pluralize(self.rejects, 'row')} could not be read"
