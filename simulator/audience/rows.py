"""Split an audience file into rows of cells, and find the errors of malformed rows."""

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TextIO

from simulator.audience.cleaning import clean_cell, strip_invisible
from simulator.audience.columns import SINGLE_LINE_COLUMNS
from simulator.audience.header import UNBALANCED_QUOTE
from simulator.audience.problems import RejectCause

MAX_LINE_CHARACTERS = 65_536
"""Length of a line, so that a file without line ends can't fill the memory."""

MAX_ROW_LINES = 100
"""Lines of one row; limits how far a quote that is never closed is read ahead."""

MAX_CELL_CHARACTERS = 10_000
"""Length of a cell, far above what a message has room for."""

UNDECODABLE = "\ufffd"
"""Character in place of bytes that an encoding other than UTF-8 doesn't have."""

_LINE_BREAK = re.compile(r"[\r\n]")


class RowError(ValueError):
    """A row can't be read. The message says why and what is expected."""

    def __init__(self, cause: RejectCause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Row(NamedTuple):
    """A row, whose cells may be fewer than the columns.

    Attributes:
        line: number of its first line, from 1.
        text: the row as the file has it.
        is_cleaned: whether invisible characters were removed from its cells.
        error: why the cells can't be used, or None.
    """

    line: int
    text: str
    cells: Sequence[str]
    is_cleaned: bool
    error: RowError | None

    def name_cells(self, columns: Sequence[str]) -> dict[str, str]:
        """Return the cleaned cells by their columns; missing ones at the end are empty."""
        missing = [""] * (len(columns) - len(self.cells))
        return dict(zip(columns, map(clean_cell, [*self.cells, *missing]), strict=True))


class RowReader:
    """A reader of rows.

    If several lines don't make a row together, a stray quote in the first one has swallowed the
    others. Only the first is then wrong; the others are read again.
    """

    def __init__(
        self, file: TextIO, columns: Sequence[str], separator: str, first_line: int
    ) -> None:
        self._file = file
        self._columns = columns
        self._separator = separator
        self._number = first_line
        self._ahead: deque[str] = deque()
        self._single_line = [
            index for index, column in enumerate(columns) if column in SINGLE_LINE_COLUMNS
        ]

    def __iter__(self) -> Iterator[Row]:
        lines: list[str] = []
        cleaned: list[str] = []

        def next_lines() -> Iterator[str]:
            while len(lines) < MAX_ROW_LINES:
                line = self._ahead.popleft() if self._ahead else read_line(self._file)
                if not line:
                    return
                lines.append(line)
                cleaned.append(strip_invisible(line, keep_joiners=True))
                yield cleaned[-1]

        while True:
            is_read_again = bool(self._ahead)
            try:
                reader = csv.reader(next_lines(), delimiter=self._separator, strict=True)
                cells = next(reader, [])
            except csv.Error:
                cells = []
            if not lines:
                return
            error = self._find_error(cells, len(lines), is_read_again)
            if error and len(lines) > 1:
                error = RowError(RejectCause.UNBALANCED_QUOTE, UNBALANCED_QUOTE)
                self._ahead.extendleft(reversed(lines[1:]))
                del lines[1:]
            text = "".join(lines)
            if any(map(str.strip, cells)) if error is None else not text.isspace():
                is_cleaned = any(map(str.__ne__, lines, cleaned))
                yield Row(self._number, text, cells, is_cleaned, error)
            self._number += len(lines)
            lines.clear()
            cleaned.clear()

    def _find_error(
        self, cells: Sequence[str], line_count: int, is_read_again: bool
    ) -> RowError | None:
        """Return what is wrong with the cells that were read from some lines, or None.

        Missing cells at the end count as empty, unless a stray quote may have taken them.
        """
        if not cells:
            return RowError(RejectCause.UNBALANCED_QUOTE, UNBALANCED_QUOTE)
        expected = len(self._columns)
        is_suspicious = line_count > 1 or is_read_again
        if len(cells) > expected or (is_suspicious and len(cells) < expected):
            return RowError(
                RejectCause.CELL_COUNT,
                f"got {len(cells)} cells; expected {expected}, as in the header",
            )
        if max(map(len, cells)) > MAX_CELL_CHARACTERS:
            return RowError(
                RejectCause.TOO_LONG,
                f"a cell is too long; expected at most {MAX_CELL_CHARACTERS:,} characters",
            )
        if line_count > 1 and any(
            _LINE_BREAK.search(cells[index].strip()) for index in self._single_line
        ):
            return RowError(RejectCause.UNBALANCED_QUOTE, UNBALANCED_QUOTE)
        return None


def read_line(file: TextIO) -> str:
    """Return the next line, cut to MAX_LINE_CHARACTERS + 1 if it is longer."""
    line = rest = file.readline(MAX_LINE_CHARACTERS + 1)
    while len(rest) > MAX_LINE_CHARACTERS and not rest.endswith("\n"):
        rest = file.readline(MAX_LINE_CHARACTERS + 1)
    return line


def validate_text(text: str, encoding: str) -> None:
    """Raise RowError if a text is too long, or has characters that can't be stored."""
    if len(text) > MAX_LINE_CHARACTERS:
        raise RowError(
            RejectCause.TOO_LONG,
            f"the row is too long; expected at most {MAX_LINE_CHARACTERS:,} characters",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) & 0xFF
        raise RowError(
            RejectCause.ENCODING, f"got the byte 0x{byte:02X}; expected UTF-8 text"
        ) from None
    if "\0" in text:
        raise RowError(RejectCause.ENCODING, "got a NUL character; expected text")
    if encoding != "utf-8" and UNDECODABLE in text:
        raise RowError(RejectCause.ENCODING, "got bytes that the encoding doesn't have")
