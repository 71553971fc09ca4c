"""Rows for people, programs and spreadsheets: a table, JSON or CSV."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum

from tracker.output.report_text import escape_control_characters

Row = Mapping[str, object]


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def render(rows: Sequence[Row], columns: Sequence[str], format: Format) -> str:
    """Rows in a format, without a line end after the last; ``columns`` are in their order."""
    match format:
        case Format.JSON:
            return json.dumps([dict(row) for row in rows], indent=2, default=str)
        case Format.CSV:
            out = io.StringIO()
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_text(row[column]) for column in columns] for row in rows)
            return out.getvalue().rstrip("\n")
        case Format.TABLE:
            cells = [
                [escape_control_characters(_shown(row[column])) for column in columns]
                for row in rows
            ]
            return _table(cells, columns)


def _table(cells: Sequence[Sequence[str]], columns: Sequence[str]) -> str:
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


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}={_text(each)}" for key, each in value.items())
    if isinstance(value, tuple | list | frozenset):
        return ", ".join(map(_text, sorted(value, key=str)))
    return "" if value is None else str(value)


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _text(value)
