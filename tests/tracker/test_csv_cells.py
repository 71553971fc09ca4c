"""Cells of CSV files: no text begins a formula, and nothing is lost when a file is read again."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.paths import ROOT
from tracker.csv_cells import FORMULA_STARTS, CsvWriter, escape_cell, unescape_cell


def written(*cells: object) -> str:
    out = io.StringIO()
    CsvWriter(out).write_row(cells)
    return out.getvalue()


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("=1+1", "'=1+1\r\n"),
        ("+447700900123", "'+447700900123\r\n"),
        ("-3 left", "'-3 left\r\n"),
        ("@SUM(A1)", "'@SUM(A1)\r\n"),
        ("\t=1+1", "'\t=1+1\r\n"),
        ("ana@example.com", "ana@example.com\r\n"),
        ("'quoted'", "'quoted'\r\n"),
        (-3, "-3\r\n"),
        (-0.5, "-0.5\r\n"),
    ],
)
def test_text_that_begins_a_formula_is_escaped(cell: object, text: str) -> None:
    assert written(cell) == text


@given(st.text(st.sampled_from("='+-@\t\r\na1 ")))
def test_an_escaped_cell_is_read_again_as_it_was(text: str) -> None:
    [[cell]] = csv.reader(io.StringIO(written(text), newline=""))
    assert not cell.startswith(FORMULA_STARTS)
    is_own_escape = text.startswith("'") and text[1:].startswith(FORMULA_STARTS)
    assert unescape_cell(cell) == (text[1:] if is_own_escape else text)
    assert unescape_cell(str(escape_cell(text))) == unescape_cell(text)


def test_every_csv_file_is_written_by_this_writer() -> None:
    writers = [
        path.relative_to(ROOT).as_posix()
        for top in ("tracker", "workers", "simulator", "fault_matrix", "drills", "benchmarks")
        for path in (ROOT / top).rglob("*.py")
        if "csv.writer(" in (text := path.read_text("utf-8")) or "DictWriter" in text
    ]
    assert writers == ["tracker/csv_cells.py"]
