"""Rows as a table, as JSON and as CSV."""

import csv
import io
import json
import os
import pty
import subprocess
import sys

import pytest

from tracker.output.tables import RowFormat, format_rows, format_table, print_rows

ROWS: list[dict[str, object]] = [
    {"name": "one", "count": 1_234, "values": {"a": None, "b": (2, 1)}},
    {"name": 'two, "quoted"', "count": 7, "values": {}},
]


def test_table_aligns_text_to_the_left_and_numbers_to_the_right() -> None:
    assert format_rows(ROWS, ("name", "count"), RowFormat.TABLE).splitlines() == [
        "name           count",
        "one            1,234",
        'two, "quoted"      7',
    ]
    assert format_rows([], ("name", "count"), RowFormat.TABLE) == "name  count"


def test_aligned_columns_and_lines_without_trailing_spaces() -> None:
    assert format_table(
        ("figure", "before", ""),
        [("p95", "1 s", "✔"), ("throughput", "20/s", "")],
        right_aligned={1},
    ).splitlines() == [
        "figure      before",
        "p95            1 s  ✔",
        "throughput    20/s",
    ]


def test_wide_characters_take_two_columns() -> None:
    assert format_table(("name", "n"), [("山田", "1"), ("yamada", "2")]).splitlines() == [
        "name    n",
        "山田    1",
        "yamada  2",
    ]


def test_no_cell_is_cut_or_read_as_markup() -> None:
    cell = "[bold]x[/bold] :smile: " + "long " * 1_000 + "end"
    assert format_table(("cell",), [(cell,)]).splitlines()[1] == cell


@pytest.mark.parametrize("name", ["\x1b[31mred", "two\nlines", "\u202eright to left", "a\tb"])
def test_control_characters_are_escaped(name: str) -> None:
    lines = format_rows([{"name": name}], ("name",), RowFormat.TABLE).split("\n")
    assert lines == ["name", name.encode("unicode_escape").decode().replace(r"\\", "\\")]


def test_json_and_csv() -> None:
    assert json.loads(format_rows(ROWS, ("name",), RowFormat.JSON))[0]["count"] == 1_234
    text = format_rows(ROWS, ("name", "count", "values"), RowFormat.CSV)
    assert list(csv.reader(io.StringIO(text))) == [
        ["name", "count", "values"],
        ["one", "1234", "a=; b=1, 2"],
        ['two, "quoted"', "7", ""],
    ]


def test_printed_output_is_plain_where_it_is_not_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows(ROWS, ("name", "count"), RowFormat.TABLE)
    assert capsys.readouterr().out == format_rows(ROWS, ("name", "count"), RowFormat.TABLE) + "\n"


PRINT_WIDE_ROW = """
from tracker.output.tables import RowFormat, print_rows
print_rows([{"name": "x" * 200}], ("name",), RowFormat.TABLE)
"""


def test_terminal_gets_a_bold_header_and_whole_cells() -> None:
    reader, writer = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
    subprocess.run(
        [sys.executable, "-c", PRINT_WIDE_ROW], stdout=writer, env=environment, check=True
    )
    os.close(writer)
    assert os.read(reader, 10_000).decode() == "\x1b[1mname\x1b[0m\r\n" + "x" * 200 + "\r\n"
    os.close(reader)
