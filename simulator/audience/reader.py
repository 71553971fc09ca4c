"""Read customers from an audience file: CSV in UTF-8 with a header row, as other systems export it.

A wrong header is a `UsageError` before any row is read. A row that can't be read is yielded as a
`RejectedRow` between the customers.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO

from simulator.audience.columns import COLUMNS, SINGLE_LINE_COLUMNS
from tracker.errors import UsageError
from workers.mobile import to_e164

MAX_LINE_CHARACTERS = 65_536
"""Length of a line, so that a file without line ends can't fill the memory."""

MAX_ROW_LINES = 100
"""Lines of one row; limits how far a quote that is never closed is read ahead."""

MAX_CELL_CHARACTERS = 10_000
"""Length of a cell, far above what a message has room for."""

MAX_ID_CHARACTERS = 255
"""Length of a customer_id; PostgreSQL can't index more than 2,704 bytes."""

MAX_COUNT_DIGITS = 9
"""Digits of a count, so that it fits into 32 bits."""

_CUSTOM_COLUMN_PREFIX = re.compile(r"^(tag|field):(?=.)", re.IGNORECASE)
_LINE_BREAK = re.compile(r"[\r\n]")
_FLAG_VALUES = {
    "": False,
    "yes": True,
    "no": False,
    "true": True,
    "false": False,
    "1": True,
    "0": False,
}
_EMAIL_OPT_OUT_VALUES = {"": False, "email": True, "sms": False, "both": True}
_SMS_OPT_OUT_VALUES = {"": False, "email": False, "sms": True, "both": True}
_UNBALANCED_QUOTE = (
    "unbalanced quote; expected a quoted cell to end in a quote, and quotes in it doubled"
)
_encode_json = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode


@dataclass(frozen=True, kw_only=True)
class CustomerRecord:
    """A customer as imported, in the columns of the table `customers`.

    Attributes:
        mobile_e164: mobile number in E.164, or None if `mobile` isn't a possible number.
        hard_bounces_email: the file doesn't tell bounces by channel, so they count for both.
        custom: JSON text of an object with the keys `tag:NAME` and `field:NAME`.
    """

    customer_id: str
    email: str | None
    mobile: str | None
    mobile_e164: str | None
    loyalty_member: bool
    unsubscribed_email: bool
    unsubscribed_sms: bool
    ndnc: bool
    hard_bounces_email: int
    soft_bounces_email: int
    hard_bounces_sms: int
    soft_bounces_sms: int
    last_store: str | None
    profile: str | None
    coupon_id: str | None
    coupon_expires: str | None
    coupon_redeemed: bool
    custom: str


@dataclass(frozen=True)
class RejectedRow:
    """A row that can't be read.

    Attributes:
        line: number of its first line, from 1.
        cause: why it can't be read.
        text: the row. Bytes that aren't UTF-8 are surrogates (PEP 383); a long line is cut.
    """

    line: int
    cause: str
    text: str


def check_header(path: Path) -> None:
    """Raise `UsageError` if the file can't be read or its header is wrong."""
    with _open_audience_file(path):
        pass


def read_customers(path: Path) -> Iterator[CustomerRecord | RejectedRow]:
    """Yield the rows of an audience file in order, without blank lines.

    Only the ids are held in memory.

    Raises:
        UsageError: the file can't be read or its header is wrong; raised for the first row.
    """
    with _open_audience_file(path) as (file, columns):
        first_line: dict[str, int] = {}
        for line, text, cells, cause in _read_rows(file, columns):
            try:
                _validate_text(text)
                if cause:
                    raise _RowError(cause)
                customer = _parse_customer(dict(zip(columns, map(str.strip, cells), strict=True)))
                first = first_line.setdefault(customer.customer_id, line)
                if first != line:
                    raise _RowError(f"duplicate customer_id; same as in line {first}")
            except _RowError as error:
                yield RejectedRow(line, str(error), text.removesuffix("\n").removesuffix("\r"))
            else:
                yield customer


class _RowError(Exception):
    """A row or the header is wrong. The message says why and what is expected."""


@contextmanager
def _open_audience_file(path: Path) -> Iterator[tuple[TextIO, Sequence[str]]]:
    """Open an audience file and yield it, at its second line, with its columns."""
    try:
        # With newline="", line ends within quotes stay as they are and belong to the cell.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file, _parse_header(file.readline(MAX_LINE_CHARACTERS + 1))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected an audience file (CSV)") from None
    except _RowError as error:
        raise UsageError(f"{path}: can't read the header: {error}") from None


def _parse_header(header: str) -> Sequence[str]:
    """Return the names of the columns: fixed ones in lower case, tags and fields as written."""
    _validate_text(header)
    try:
        names = [name.strip() for name in next(csv.reader([header], strict=True), [])]
    except csv.Error:
        raise _RowError(_UNBALANCED_QUOTE) from None
    names = [name.lower() if name.lower() in COLUMNS else name for name in names]
    names = [_CUSTOM_COLUMN_PREFIX.sub(lambda prefix: prefix[0].lower(), name) for name in names]
    if not any(names):
        raise _RowError("the first line is empty; expected the names of the columns")
    for index, name in enumerate(names):
        _validate_column(name, index, names[:index])
    if "customer_id" not in names:
        raise _RowError(f"missing column customer_id in {', '.join(names)[:200]}; it is required")
    return names


def _validate_column(name: str, index: int, earlier: Sequence[str]) -> None:
    if not name:
        raise _RowError(f"column {index + 1} has no name; expected one for every column")
    if name not in COLUMNS and not _CUSTOM_COLUMN_PREFIX.match(name):
        similar = " or ".join(get_close_matches(name.lower(), COLUMNS))
        hint = f" (did you mean {similar}?)" if similar else ""
        columns = ", ".join((*COLUMNS, "tag:NAME or field:NAME, with commas between them"))
        raise _RowError(f"unknown column {name[:80]!r}{hint}; expected {columns}")
    if name in earlier:
        raise _RowError(f"got column {name[:80]!r} twice; expected each column once")


def _read_rows(
    file: TextIO, columns: Sequence[str]
) -> Iterator[tuple[int, str, Sequence[str], str | None]]:
    """Yield the first line's number, the text, the cells and the error of each row.

    If several lines don't make a row together, a stray quote in the first one has swallowed the
    others. Only the first is then wrong; the others are read again.
    """
    number = 2
    ahead: deque[str] = deque()
    lines: list[str] = []

    def next_lines() -> Iterator[str]:
        while len(lines) < MAX_ROW_LINES and (
            line := ahead.popleft() if ahead else _read_line(file)
        ):
            lines.append(line)
            yield line

    while True:
        try:
            cells = next(csv.reader(next_lines(), strict=True), [])
        except csv.Error:
            cells = []
        if not lines:
            return
        cause = _find_row_error(columns, cells, lines)
        if cause and len(lines) > 1:
            cause = _UNBALANCED_QUOTE
            ahead.extendleft(reversed(lines[1:]))
            del lines[1:]
        text = "".join(lines)
        if not text.isspace():
            yield number, text, cells, cause
        number += len(lines)
        lines.clear()


def _read_line(file: TextIO) -> str:
    line = rest = file.readline(MAX_LINE_CHARACTERS + 1)
    while len(rest) > MAX_LINE_CHARACTERS and not rest.endswith("\n"):
        rest = file.readline(MAX_LINE_CHARACTERS + 1)
    return line


def _find_row_error(
    columns: Sequence[str], cells: Sequence[str], lines: Sequence[str]
) -> str | None:
    """Return what is wrong with the cells that were read from some lines, or None."""
    if not cells:
        return _UNBALANCED_QUOTE
    if len(cells) != len(columns):
        return f"got {len(cells)} cells; expected {len(columns)}, as in the header"
    if max(map(len, cells)) > MAX_CELL_CHARACTERS:
        return f"a cell is too long; expected at most {MAX_CELL_CHARACTERS:,} characters"
    single = (
        cell.strip()
        for column, cell in zip(columns, cells, strict=True)
        if column in SINGLE_LINE_COLUMNS
    )
    return _UNBALANCED_QUOTE if len(lines) > 1 and any(map(_LINE_BREAK.search, single)) else None


def _validate_text(text: str) -> None:
    if len(text) > MAX_LINE_CHARACTERS:
        raise _RowError(f"the row is too long; expected at most {MAX_LINE_CHARACTERS:,} characters")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) & 0xFF
        raise _RowError(f"got the byte 0x{byte:02X}; expected UTF-8 text") from None
    if "\0" in text:
        raise _RowError("got a NUL character; expected UTF-8 text")


def _parse_customer(row: Mapping[str, str]) -> CustomerRecord:
    get = row.get
    customer_id = row["customer_id"]
    if not 0 < len(customer_id) <= MAX_ID_CHARACTERS:
        got = "customer_id is too long" if customer_id else "missing customer_id"
        raise _RowError(f"{got}; expected 1 to {MAX_ID_CHARACTERS} characters")
    mobile, region = get("mobile"), get("region", "")
    hard_bounces = _parse_count(row, "hard_bounces")
    soft_bounces = _parse_count(row, "soft_bounces")
    return CustomerRecord(
        customer_id=customer_id,
        email=get("email") or None,
        mobile=mobile or None,
        mobile_e164=to_e164(mobile, region) if mobile else None,
        loyalty_member=_parse_choice(row, "loyalty_member", _FLAG_VALUES),
        unsubscribed_email=_parse_choice(row, "unsubscribed", _EMAIL_OPT_OUT_VALUES),
        unsubscribed_sms=_parse_choice(row, "unsubscribed", _SMS_OPT_OUT_VALUES),
        ndnc=_parse_choice(row, "ndnc", _FLAG_VALUES),
        hard_bounces_email=hard_bounces,
        soft_bounces_email=soft_bounces,
        hard_bounces_sms=hard_bounces,
        soft_bounces_sms=soft_bounces,
        last_store=get("last_store") or None,
        profile=get("profile") or None,
        coupon_id=get("coupon_id") or None,
        coupon_expires=get("coupon_expires") or None,
        coupon_redeemed=_parse_choice(row, "coupon_redeemed", _FLAG_VALUES),
        custom=_encode_json(
            ({"field:region": region} if region else {})
            | {name: cell for name, cell in row.items() if cell and ":" in name}
        ),
    )


def _parse_choice(row: Mapping[str, str], column: str, meanings: Mapping[str, bool]) -> bool:
    text = row.get(column, "")
    try:
        return meanings[text.lower()]
    except KeyError:
        expected = ", ".join(filter(None, meanings))
        raise _RowError(f"{column}: got {text[:80]!r}; expected {expected} or nothing") from None


def _parse_count(row: Mapping[str, str], column: str) -> int:
    text = row.get(column) or "0"
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_COUNT_DIGITS):
        raise _RowError(f"{column}: got {text[:80]!r}; expected a whole number, 0 or more")
    return int(text)
