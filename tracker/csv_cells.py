"""Cells of CSV files that a spreadsheet shows as text instead of running them as a formula."""

import csv
from collections.abc import Iterable
from typing import TextIO

ESCAPE = "'"
"""Character before a cell that would begin a formula; spreadsheets hide it and show the rest."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""Characters that a formula may begin with, or that spreadsheets skip before one."""


class CsvWriter:
    """A writer of CSV rows whose text cells never begin a formula.

    Numbers are written as they are: a spreadsheet reads -3 as a number.
    """

    def __init__(self, file: TextIO, lineterminator: str = "\r\n") -> None:
        self._writer = csv.writer(file, lineterminator=lineterminator)

    def write_row(self, cells: Iterable[object]) -> None:
        """Write a row."""
        self._writer.writerow([escape_cell(cell) for cell in cells])


def escape_cell(cell: object) -> object:
    """Return a cell with an apostrophe before it if it is text that would begin a formula."""
    return f"{ESCAPE}{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


def unescape_cell(cell: str) -> str:
    """Return a cell without the apostrophe of `escape_cell`, so that files can be read again."""
    has_escape = cell.startswith(ESCAPE) and cell[1:].startswith(FORMULA_STARTS)
    return cell[1:] if has_escape else cell
