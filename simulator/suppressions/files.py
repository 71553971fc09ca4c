"""Read suppressed recipients from files of other systems, and from our own exports."""

import codecs
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from simulator.audience.dialect import guess_encoding, guess_separator
from simulator.audience.header import number_headings, split_header
from simulator.audience.headings import guess_columns
from simulator.audience.problems import MobileProblem, RejectCause
from simulator.audience.reader import (
    open_text,
    read_first_lines,
    read_header_line,
    skip_separator_line,
)
from simulator.audience.rows import RowError, RowReader, validate_text
from simulator.suppressions.recipients import AddressProblem, UnusableEntry, parse_recipient
from tracker.errors import UsageError
from tracker.status import Channel
from tracker.text import suggest_similar

EXPORT_COLUMNS = ("address", "channel", "reason", "count", "source", "since", "expires")
"""Columns of a file that `sendtrace suppressions export` writes."""

CHANNELS_BY_COLUMN = {"email": Channel.EMAIL, "mobile": Channel.SMS}

Cause = AddressProblem | MobileProblem | RejectCause


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Options of a file; None for what is guessed.

    Attributes:
        column: heading of the column with the addresses.
        region: country of national numbers; an empty text for none.
    """

    column: str | None = None
    channel: Channel | None = None
    encoding: str | None = None
    separator: str | None = None
    region: str = ""


class ListedRow(NamedTuple):
    """A row of a file: its line, and its cells by heading."""

    line: int
    cells: dict[str, str]


class RejectedLine(NamedTuple):
    """A row that can't be used, and why."""

    line: int
    cause: Cause
    message: str


@dataclass(frozen=True, kw_only=True)
class AddressFile:
    """A file of recipients as it is read.

    Attributes:
        headings: its columns; made up if the file has no header.
        column: heading of the column with the addresses.
        channel: channel of the addresses; None if each address tells.
        has_header: whether the first line isn't a recipient.
    """

    path: Path
    encoding: str
    separator: str
    headings: Sequence[str]
    column: str
    channel: Channel | None
    has_header: bool

    @property
    def is_export(self) -> bool:
        """True if it has the columns that our own export has."""
        return set(EXPORT_COLUMNS) <= {*self.headings}

    def read_rows(self) -> Iterator[ListedRow | RejectedLine]:
        """Yield the rows in order, without blank lines and repeated headers."""
        encoding = codecs.lookup(self.encoding).name.removesuffix("-sig")
        with _readable(self.path), open_text(self.path, self.encoding) as stream:
            if self.has_header:
                first_line = read_header_line(stream)[1]
            else:
                first_line = skip_separator_line(stream)
            for row in RowReader(stream, self.headings, self.separator, first_line):
                try:
                    validate_text(row.text, encoding)
                    if row.error is not None:
                        raise row.error
                except RowError as error:
                    yield RejectedLine(row.line, error.cause, str(error))
                    continue
                cells = row.name_cells(self.headings)
                if not self.has_header or cells[self.column] != self.column:
                    yield ListedRow(row.line, cells)


def open_address_file(path: Path, options: FileOptions) -> AddressFile:
    """Find out how a file is read, and where its addresses are.

    Raises:
        UsageError: the file can't be read, or it isn't clear where its addresses are.
    """
    with _readable(path):
        encoding = options.encoding or guess_encoding(path)
        lines = read_first_lines(path, encoding)
        separator = options.separator or guess_separator(lines)
        cells = split_header(lines[0], separator)
    if not any(cells):
        raise UsageError(f"{path}: its first line is empty; expected addresses or a header")
    headings = [*number_headings(cells)]
    column, channel, has_header = _find_column(path, cells, headings, options)
    return AddressFile(
        path=path,
        encoding=encoding,
        separator=separator,
        headings=headings if has_header else [f"column {n + 1}" for n in range(len(cells))],
        column=column,
        channel=channel,
        has_header=has_header,
    )


def _find_column(
    path: Path, cells: Sequence[str], headings: Sequence[str], options: FileOptions
) -> tuple[str, Channel | None, bool]:
    """Return the column of the addresses, their channel, and whether the file has a header."""
    guessed = guess_columns(headings)
    by_channel = {
        CHANNELS_BY_COLUMN[column]: heading
        for heading, column in guessed.items()
        if column in CHANNELS_BY_COLUMN
    }
    if options.column is not None:
        by_folded = {heading.casefold(): heading for heading in headings}
        column = by_folded.get(options.column.casefold())
        if column is None:
            raise UsageError(
                f"--column {options.column}: no such column in {path}"
                f"{suggest_similar(options.column, headings)}"
            )
        channels = [channel for channel, heading in by_channel.items() if heading == column]
        return column, options.channel or next(iter(channels), None), True
    if {*EXPORT_COLUMNS} <= {*headings}:
        return EXPORT_COLUMNS[0], options.channel, True
    if options.channel in by_channel:
        return by_channel[options.channel], options.channel, True
    if len(by_channel) > 1:
        raise UsageError(
            f"{path}: has email addresses and mobile numbers; expected --channel email or sms"
        )
    if options.channel is None and by_channel:
        [(channel, column)] = by_channel.items()
        return column, channel, True
    for number, cell in enumerate(cells):
        if _is_recipient(cell, options):
            return f"column {number + 1}", options.channel, False
    raise UsageError(
        f"{path}: no column of addresses in {', '.join(headings)[:200]}; expected --column HEADING"
    )


def _is_recipient(cell: str, options: FileOptions) -> bool:
    try:
        parse_recipient(cell, options.channel, options.region)
    except UnusableEntry:
        return False
    return True


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from None
    except (LookupError, ValueError) as error:
        raise UsageError(f"{path}: can't be read: {error}") from None
