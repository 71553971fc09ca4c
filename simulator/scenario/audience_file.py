"""Customers from an audience file: CSV in UTF-8 with a header row, as other systems export it.

A header that can't be understood is a :exc:`UsageError`, before anything else is read. A row that
can't be read is handed out as :class:`RejectedRow`, between the customers, and stops nothing.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO

from tracker.errors import UsageError
from workers.checks.mobile import to_e164

SINGLE_LINE_COLUMNS = (  # a line break in one of these comes from a stray quote
    *("customer_id", "email", "mobile", "region", "loyalty_member", "unsubscribed", "ndnc"),
    *("hard_bounces", "soft_bounces", "coupon_id", "coupon_expires", "coupon_redeemed"),
)
COLUMNS = (*SINGLE_LINE_COLUMNS, "last_store", "profile")

MAX_LINE_CHARACTERS = 65_536  # characters, so that a file without line ends can't fill the memory
MAX_ROW_LINES = 100  # in one row; bounds how far a quote that is never closed makes us read ahead
MAX_CELL_CHARACTERS = 10_000  # characters, far above what a message has room for
MAX_ID_CHARACTERS = 255  # characters of a customer_id; PostgreSQL can't index more than 2,704 bytes
MAX_COUNT_DIGITS = 9  # of a count, so that it fits the database's 32 bits

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
    """One customer as imported. ``mobile_e164`` is None where ``mobile`` is no possible number;
    ``custom`` is the text of a JSON object with the keys ``tag:NAME`` and ``field:NAME``. A file
    does not say on which channel a customer's messages bounced: it counts for both."""

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
    """A row that can't be read: the line (from 1) where it begins, why, and how it stood there.

    In ``text``, bytes that are not UTF-8 are surrogates (PEP 383), and a long line is cut short.
    """

    line: int
    cause: str
    text: str


class RejectFile(ExitStack):
    """The rejected rows as a CSV file, which is made when the first of them comes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.count = 0

    def add(self, rejected: RejectedRow) -> None:
        """Write a row down; :exc:`UsageError` if the file can't be made."""
        if not self.count:
            try:
                file = self.path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
            except OSError as error:
                raise UsageError(f"can't write rejects to {self.path}: {error.strerror}") from None
            self._writer = csv.writer(self.enter_context(file))
            self._writer.writerow(("line", "cause", "row"))
        self._writer.writerow((rejected.line, rejected.cause, rejected.text))
        self.count += 1


def check_header(path: Path) -> None:
    """Raise :exc:`UsageError` if the file can't be read or its header can't be understood."""
    with _open_audience_file(path):
        pass


def read_customers(path: Path) -> Iterator[CustomerRecord | RejectedRow]:
    """Each row in the file's order, without blank lines. Only the ids seen are held in memory.

    :exc:`UsageError` as from :func:`check_header`, when the first row is asked for.
    """
    with _open_audience_file(path) as (file, columns):
        first_line: dict[str, int] = {}
        for line, text, cells, fault in _read_rows(file, columns):
            try:
                _validate_text(text)
                if fault:
                    raise _RowError(fault)
                customer = _parse_customer(dict(zip(columns, map(str.strip, cells), strict=True)))
                first = first_line.setdefault(customer.customer_id, line)
                if first != line:
                    raise _RowError(f"duplicate customer_id; line {first} has the same")
            except _RowError as error:
                yield RejectedRow(line, str(error), text.removesuffix("\n").removesuffix("\r"))
            else:
                yield customer


class _RowError(Exception):
    """What is wrong with a row, and what was expected."""


@contextmanager
def _open_audience_file(path: Path) -> Iterator[tuple[TextIO, Sequence[str]]]:
    """The file, at its second line, and its columns."""
    try:
        # newline="" leaves line ends as they are: within quotes they belong to the cell.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file, _parse_header(file.readline(MAX_LINE_CHARACTERS + 1))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected an audience file (CSV)") from None
    except _RowError as error:
        raise UsageError(f"{path}: can't read the header: {error}") from None


def _parse_header(header: str) -> Sequence[str]:
    """The columns' names: fixed ones in lower case, those of tags and fields as they stand."""
    _validate_text(header)
    try:
        names = [name.strip() for name in next(csv.reader([header], strict=True), [])]
    except csv.Error:
        raise _RowError(_UNBALANCED_QUOTE) from None
    names = [name.lower() if name.lower() in COLUMNS else name for name in names]
    names = [_CUSTOM_COLUMN_PREFIX.sub(lambda prefix: prefix[0].lower(), name) for name in names]
    if not any(names):
        raise _RowError("the first line is empty; expected the names of the columns")
    for place, name in enumerate(names):
        if not name:
            raise _RowError(f"column {place + 1} has no name; expected one for every column")
        if name not in COLUMNS and not _CUSTOM_COLUMN_PREFIX.match(name):
            near = " or ".join(get_close_matches(name.lower(), COLUMNS))
            hint = f" (did you mean {near}?)" if near else ""
            known = ", ".join((*COLUMNS, "tag:NAME or field:NAME, with commas between them"))
            raise _RowError(f"unknown column {name[:80]!r}{hint}; expected {known}")
        if name in names[:place]:
            raise _RowError(f"column {name[:80]!r} is there twice; expected each column once")
    if "customer_id" not in names:
        raise _RowError(f"no column customer_id among {', '.join(names)[:200]}; it is required")
    return names


def _read_rows(
    file: TextIO, columns: Sequence[str]
) -> Iterator[tuple[int, str, Sequence[str], str | None]]:
    """Number of the first line, text, cells, and what is wrong with the cells, of each row.

    Of several lines that make no row together only the first is at fault: a stray quote in it has
    swallowed the others, which are read again.
    """
    number = 2
    ahead: deque[str] = deque()
    taken: list[str] = []

    def take() -> Iterator[str]:
        while len(taken) < MAX_ROW_LINES and (
            line := ahead.popleft() if ahead else _read_line(file)
        ):
            taken.append(line)
            yield line

    while True:
        try:
            cells = next(csv.reader(take(), strict=True), [])
        except csv.Error:
            cells = []
        if not taken:
            return
        fault = _find_row_error(columns, cells, taken)
        if fault and len(taken) > 1:
            fault = _UNBALANCED_QUOTE
            ahead.extendleft(reversed(taken[1:]))
            del taken[1:]
        text = "".join(taken)
        if not text.isspace():
            yield number, text, cells, fault
        number += len(taken)
        taken.clear()


def _read_line(file: TextIO) -> str:
    line = rest = file.readline(MAX_LINE_CHARACTERS + 1)
    while len(rest) > MAX_LINE_CHARACTERS and not rest.endswith("\n"):
        rest = file.readline(MAX_LINE_CHARACTERS + 1)
    return line


def _find_row_error(
    columns: Sequence[str], cells: Sequence[str], lines: Sequence[str]
) -> str | None:
    """What is wrong with the cells that were read from some lines."""
    if not cells:
        return _UNBALANCED_QUOTE
    if len(cells) != len(columns):
        return f"{len(cells)} cells; expected {len(columns)}, as in the header"
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
        raise _RowError(f"the byte 0x{byte:02X} is not UTF-8; expected UTF-8 text") from None
    if "\0" in text:
        raise _RowError("a NUL character; expected UTF-8 text")


def _parse_customer(row: Mapping[str, str]) -> CustomerRecord:
    get = row.get
    customer_id = row["customer_id"]
    if not 0 < len(customer_id) <= MAX_ID_CHARACTERS:
        wrong = "customer_id is too long" if customer_id else "no customer_id"
        raise _RowError(f"{wrong}; expected 1 to {MAX_ID_CHARACTERS} characters")
    mobile = get("mobile")
    hard_bounces, soft_bounces = (
        _parse_count(row, "hard_bounces"),
        _parse_count(row, "soft_bounces"),
    )
    return CustomerRecord(
        customer_id=customer_id,
        email=get("email") or None,
        mobile=mobile or None,
        mobile_e164=to_e164(mobile, get("region", "")) if mobile else None,
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
        custom=_encode_json({name: cell for name, cell in row.items() if cell and ":" in name}),
    )


def _parse_choice(row: Mapping[str, str], column: str, meanings: Mapping[str, bool]) -> bool:
    text = row.get(column, "")
    try:
        return meanings[text.lower()]
    except KeyError:
        expected = ", ".join(filter(None, meanings))
        raise _RowError(f"{column} is {text[:80]!r}; expected {expected} or nothing") from None


def _parse_count(row: Mapping[str, str], column: str) -> int:
    text = row.get(column) or "0"
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_COUNT_DIGITS):
        raise _RowError(f"{column} is {text[:80]!r}; expected a whole number, 0 or more")
    return int(text)
