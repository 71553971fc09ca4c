"""Files of expected outcomes: CSV with the id of a customer, and how the message must end."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from simulator.values import format_value
from tracker.csv_cells import unescape_cell
from tracker.errors import UsageError
from tracker.status import Reason
from tracker.store.schema.messages import NO_REASON
from tracker.text import suggest_similar

EXPECTED_COLUMNS = ("customer_id", "expected")

SENT_KEYWORD = "sent"
"""Value of the column `expected` for a message that the gateway accepts, whatever its outcome."""

_REASON_BY_KEYWORD = {SENT_KEYWORD: NO_REASON, **{reason.slug: int(reason) for reason in Reason}}


def read_expected_outcomes(path: Path) -> dict[str, int]:
    """Return the expected reason code of each customer's message, by id; `NO_REASON` if it is sent.

    Raises:
        UsageError: the file can't be read, or a line is wrong.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _collect(_parse_rows(file))
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text") from None
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{path}: {error}") from None


def _parse_rows(file: TextIO) -> Iterator[tuple[int, str, int]]:
    """Yield the line, the customer's id and the expected reason code of each row."""
    reader = csv.reader(file, strict=True)
    header = [cell.strip().lower() for cell in next(reader, [])]
    if tuple(header) != EXPECTED_COLUMNS:
        got, expected = (",".join(names) for names in (header, EXPECTED_COLUMNS))
        raise ValueError(f"line 1: got {format_value(got)}; expected the header {expected}")
    for cells in reader:
        line = reader.line_num
        if not cells:
            continue
        if len(cells) != len(EXPECTED_COLUMNS):
            raise ValueError(f"line {line}: got {len(cells)} cells; expected 2, as in the header")
        customer_id, keyword = (unescape_cell(cell.strip()) for cell in cells)
        if keyword not in _REASON_BY_KEYWORD:
            similar = suggest_similar(keyword, list(_REASON_BY_KEYWORD))
            raise ValueError(
                f"line {line}: unknown outcome {format_value(keyword)}{similar};"
                f" expected {SENT_KEYWORD} or the slug of a reason"
            )
        yield line, customer_id, _REASON_BY_KEYWORD[keyword]


def _collect(rows: Iterator[tuple[int, str, int]]) -> dict[str, int]:
    expected: dict[str, int] = {}
    for line, customer_id, reason in rows:
        if customer_id in expected:
            raise ValueError(f"line {line}: customer {customer_id!r} occurs twice")
        expected[customer_id] = reason
    if not expected:
        raise ValueError("no customers; expected one in each line after the header")
    return expected
