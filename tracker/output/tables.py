"""Print rows as a table for people, as JSON for programs or as CSV for spreadsheets."""

import io
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

from tracker.csv_cells import CsvWriter
from tracker.text import escape_control_characters

COLUMN_GAP = 2

MAX_TABLE_WIDTH = 1_000_000
"""Characters of a line that nothing is cut from, whatever the width of the terminal."""

Row = Mapping[str, object]
"""Values by column."""


class RowFormat(StrEnum):
    """Output formats of rows."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def print_rows(rows: Sequence[Row], columns: Sequence[str], format: RowFormat) -> None:
    """Print rows to stdout; on a terminal, the header of a table is bold."""
    text = format_rows(rows, columns, format)
    if format is RowFormat.TABLE and sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        header, *lines = text.split("\n")
        console = Console(highlight=False)
        console.print(Text(header, style="bold"), *map(Text, lines), sep="\n", soft_wrap=True)
    else:
        print(text, flush=True)


def format_rows(rows: Sequence[Row], columns: Sequence[str], format: RowFormat) -> str:
    """Return rows in a format, without a line end after the last.

    A table or CSV file has the given columns; JSON has all values of a row.
    """
    match format:
        case RowFormat.JSON:
            return json.dumps([dict(row) for row in rows], indent=2, default=str)
        case RowFormat.CSV:
            out = io.StringIO()
            writer = CsvWriter(out, lineterminator="\n")
            writer.write_row(columns)
            for row in rows:
                writer.write_row(_format_csv_cell(row[column]) for column in columns)
            return out.getvalue().rstrip("\n")
        case RowFormat.TABLE:
            cells = [[_format_cell(row[column]) for column in columns] for row in rows]
            return format_table(columns, cells, right_aligned=_find_number_columns(cells))


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, right_aligned: Collection[int] = ()
) -> str:
    """Return cells in aligned columns, without a line end after the last.

    The text has no colours, and no cell is cut. Control characters are escaped. The columns at the
    positions `right_aligned` are aligned to the right, the others to the left.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, COLUMN_GAP, 0, 0), header_style="")
    for position, name in enumerate(header):
        table.add_column(
            Text(_escape_cell(name)),
            justify="right" if position in right_aligned else "left",
            no_wrap=True,
        )
    for row in rows:
        table.add_row(*(Text(_escape_cell(cell)) for cell in row))
    console = Console(file=io.StringIO(), width=MAX_TABLE_WIDTH, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))


def _escape_cell(text: str) -> str:
    return escape_control_characters(text).replace("\n", r"\n")


def _find_number_columns(rows: Sequence[Sequence[str]]) -> set[int]:
    """Return the positions of the columns in which every cell is a whole number."""
    return {
        position
        for position, cells in enumerate(zip(*rows, strict=True))
        if all(cell.replace(",", "").isdigit() for cell in cells)
    }


def _format_value(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}={_format_value(inner)}" for key, inner in value.items())
    if isinstance(value, tuple | list | frozenset):
        return ", ".join(map(_format_value, sorted(value, key=str)))
    return "" if value is None else str(value)


def _format_csv_cell(value: object) -> object:
    return value if type(value) in (int, float) else _format_value(value)


def _format_cell(value: object) -> str:
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if is_count else _format_value(value)
