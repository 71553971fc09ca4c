"""Rows of audience files that could not be read."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from simulator.audience.reader import RejectedRow
from tracker.csv_cells import CsvWriter
from tracker.errors import UsageError
from tracker.text import pluralize


@dataclass(frozen=True, kw_only=True)
class AudienceRejects:
    """Rows of an audience file that could not be read, and the file that they were written to."""

    audience: Path
    count: int
    file: Path

    @property
    def summary(self) -> str:
        """One line that names the audience file and the number of rows."""
        return f"{self.audience.name}: {pluralize(self.count, 'row')} could not be read"


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
        self._writer.write_row((rejected.line, rejected.cause, rejected.text))
        self.count += 1
