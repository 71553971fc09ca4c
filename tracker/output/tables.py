"""Rows for people, programs and spreadsheets: a table, JSON or CSV."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum

from tracker.text import escape_control_characters

Row = Mapping[str, object]


class RowFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def format_rows(rows: Sequence[Row], columns: Sequence[str], format: RowFormat) -> str:
    """Rows in a format, without a line end after the last; ``columns`` are in their order."""
    match format:
        case RowFormat.JSON:
            return json.dumps([dict(row) for row in rows], indent=2, default=str)
        case RowFormat.CSV:
            out = io.StringIO()
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_format_value(row[column]) for column in columns] for row in rows)
            return out.getvalue().rstrip("\n")
        case RowFormat.TABLE:
            cells = [
                [escape_control_characters(_format_cell(row[column])) for column in columns]
                for row in rows
            ]
            return _format_table(cells, columns)


def _format_table(cells: Sequence[Sequence[str]], columns: Sequence[str]) -> str:
    """Columns side by side; those of numbers to the right."""
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [
        bool(cells) and all(cell.replace(",", "").isdigit() for cell in column)
        for column in zip(*cells, strict=True)
    ] or [False] * len(columns)
    lines = []
    for line in (columns, *cells):
        placed = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, numeric, strict=True)
        )
        lines.append("  ".join(placed).rstrip())
    return "\n".join(lines)


def _format_value(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}={_format_value(each)}" for key, each in value.items())
    if isinstance(value, tuple | list | frozenset):
        return ", ".join(map(_format_value, sorted(value, key=str)))
    return "" if value is None else str(value)


def _format_cell(value: object) -> str:
    return (
        f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool)
        else _format_value(value)
    )
