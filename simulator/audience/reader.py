"""Read customers from an audience file.

A wrong header is a `UsageError` before any row is read. A row that can't be read is yielded as a
`RejectedRow` between the customers.
"""

import codecs
import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from simulator.audience.formats import AudienceFile
from simulator.audience.header import WrongHeader, parse_header, split_header
from simulator.audience.problems import Duplicate, ProblemCounts, RejectCause, Repair
from simulator.audience.row_parser import CustomerRecord, RowParser
from simulator.audience.rows import (
    MAX_LINE_CHARACTERS,
    RowError,
    RowReader,
    read_line,
    validate_text,
)
from tracker.errors import UsageError

MAX_HEADER_LINES = 20
"""Lines that are read for a quote in the header to end."""

SAMPLE_LINES = 50
"""Lines after the header that the separator is guessed from."""

_SEPARATOR_LINE = re.compile(r"\ufeff?\"?sep=.\"?\s*", re.IGNORECASE)
"""First line that tells Excel the separator; it isn't a header."""

_HINT = "; sendtrace audience inspect suggests a mapping"
"""End of an error about a header that isn't ours."""


@dataclass(frozen=True)
class RejectedRow:
    """A row that can't be read.

    Attributes:
        line: number of its first line, from 1.
        message: why it can't be read, in words.
        text: the row. Bytes that aren't UTF-8 are surrogates (PEP 383); a long line is cut.
    """

    line: int
    cause: RejectCause
    message: str
    text: str


class DuplicateCounter:
    """A counter of addresses that an earlier customer of the file has.

    It holds a hash and a line of each address: 16 bytes, where a set would need 64.
    """

    def __init__(self) -> None:
        self._hashes = {problem: array("q") for problem in Duplicate}
        self._lines = {problem: array("q") for problem in Duplicate}

    def add(self, customer: CustomerRecord, line: int) -> None:
        """Note the addresses of a customer."""
        keys = {Duplicate.EMAIL: customer.email_key, Duplicate.MOBILE: customer.mobile_key}
        for problem, key in keys.items():
            if key is not None:
                self._hashes[problem].append(hash(key))
                self._lines[problem].append(line)

    def count(self, counts: ProblemCounts) -> None:
        """Count the addresses of all customers so far that an earlier one has."""
        # Imported here because a check of the first row doesn't need it.
        import numpy as np

        for problem, hashes in self._hashes.items():
            _, first = np.unique(np.frombuffer(hashes, np.int64), return_index=True)
            lines = np.delete(np.frombuffer(self._lines[problem], np.int64), first)
            if len(lines):
                counts.by_problem[problem] += len(lines)
                counts.first_lines.setdefault(problem, int(lines[0]))


def read_customers(
    file: AudienceFile, counts: ProblemCounts
) -> Iterator[CustomerRecord | RejectedRow]:
    """Yield the rows of an audience file in order, without blank lines, and count their problems.

    Only the ids, and hashes of the addresses, are held in memory. Duplicates are counted after the
    last row.

    Raises:
        UsageError: the file can't be read, or its mapping or its header is wrong; raised for the
            first row.
    """
    first_line: dict[str, int] = {}
    duplicates = DuplicateCounter()
    with _open_audience_file(file) as (rows, parser, encoding):
        for row in rows:
            if parser.is_repeated_header(row):
                counts.add(Repair.REPEATED_HEADER, row.line)
                continue
            counts.rows += 1
            try:
                validate_text(row.text, encoding)
                if row.error is not None:
                    raise row.error
                customer, problems = parser.parse_customer(row)
                first = first_line.setdefault(customer.customer_id, row.line)
                if first != row.line:
                    raise RowError(
                        RejectCause.DUPLICATE_ID, f"duplicate customer_id; same as in line {first}"
                    )
            except RowError as error:
                counts.add_reject(error.cause, row.line, str(error))
                text = row.text.removesuffix("\n").removesuffix("\r")
                yield RejectedRow(row.line, error.cause, str(error), text)
            else:
                for problem in problems:
                    counts.add(problem, row.line)
                duplicates.add(customer, row.line)
                yield customer
    duplicates.count(counts)


def read_columns(file: AudienceFile) -> Sequence[str]:
    """Return the columns of an audience file; raise `UsageError` if its header is wrong."""
    with _open_audience_file(file) as (_, parser, _):
        return parser.columns


@contextmanager
def _open_audience_file(file: AudienceFile) -> Iterator[tuple[RowReader, RowParser, str]]:
    """Yield the rows below the header, their parser, and the encoding by its usual name."""
    file_format = file.load_format()
    path, separator = file.path, file_format.separator
    encoding = _normalize_encoding(file_format.encoding)
    try:
        with open_text(path, encoding) as stream:
            header, first_line = read_header_line(stream)
            validate_text(header, encoding)
            headings = split_header(header, separator)
            columns = parse_header(headings, file_format)
            rows = RowReader(stream, columns, separator, first_line)
            yield rows, RowParser(file_format, columns, headings), encoding
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected an audience file (CSV)") from None
    except (WrongHeader, RowError) as error:
        raise UsageError(f"{path}: can't read the header: {error}{_HINT}") from None


def open_text(path: Path, encoding: str) -> TextIO:
    """Open an audience file; no byte stops the reading.

    Line ends within quotes stay as they are and belong to the cell. Bytes that UTF-8 doesn't have
    become surrogates, those that other encodings don't have `UNDECODABLE`.
    """
    if _normalize_encoding(encoding) == "utf-8":
        return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    return path.open(encoding=encoding, errors="replace", newline="")


def read_header_line(stream: TextIO) -> tuple[str, int]:
    """Return the header, and the number of the line after it.

    A first line that tells Excel the separator is skipped. A quoted heading may have line breaks.
    """
    header, lines = stream.readline(MAX_LINE_CHARACTERS + 1), 1
    if _SEPARATOR_LINE.fullmatch(header):
        header, lines = read_line(stream), 2
    while header.count('"') % 2 and lines < MAX_HEADER_LINES and (line := read_line(stream)):
        header += line
        lines += 1
    return header, lines + 1


def read_first_lines(path: Path, encoding: str) -> list[str]:
    """Return the header of an audience file, and SAMPLE_LINES lines after it."""
    with open_text(path, encoding) as stream:
        header, _ = read_header_line(stream)
        return [header, *(read_line(stream) for _ in range(SAMPLE_LINES))]


def skip_separator_line(stream: TextIO) -> int:
    """Skip a line at the start that tells Excel the separator; return the next line's number."""
    if _SEPARATOR_LINE.fullmatch(stream.readline(MAX_LINE_CHARACTERS + 1)):
        return 2
    stream.seek(0)
    return 1


def _normalize_encoding(encoding: str) -> str:
    name = codecs.lookup(encoding).name
    return "utf-8" if name == "utf-8-sig" else name
