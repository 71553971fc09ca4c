"""Values of cells: flags, channels, counts and dates.

Files with our own columns have our own notation. In files whose columns are mapped, the usual
notations of exports are read, too.
"""

import re
from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from itertools import islice
from types import MappingProxyType
from typing import TypeVar

T = TypeVar("T")

MAX_LISTED_VALUES = 6
"""Values that an error lists; the others are variants of them."""

MAX_COUNT_DIGITS = 9
"""Digits of a count, so that it fits into 32 bits."""

MAX_COUNT = 10**MAX_COUNT_DIGITS - 1
"""Largest count. A run may add to it, so it must be far below what 32 bits hold."""

CURRENT_CENTURY = 2000
"""Century of years with two digits: coupons expire in this one."""

FLAG_VALUES: Mapping[str, bool] = MappingProxyType(
    {"": False, "yes": True, "no": False, "true": True, "false": False, "1": True, "0": False}
)

EXPORT_FLAG_VALUES: Mapping[str, bool] = MappingProxyType(
    {
        **FLAG_VALUES,
        **dict.fromkeys(("y", "t", "on", "x", "✓", "✔", "1.0", "checked", "enabled"), True),
        **dict.fromkeys(("n", "f", "off", "0.0", "unchecked", "disabled"), False),
        **dict.fromkeys(("ja", "oui", "sí", "si", "sì", "sim", "tak", "wahr", "vrai"), True),
        **dict.fromkeys(("nein", "nee", "non", "não", "nao", "nie", "falsch", "faux"), False),
    }
)

CHANNELS_BY_VALUE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "": frozenset(),
        "email": frozenset({"email"}),
        "sms": frozenset({"sms"}),
        "both": frozenset({"email", "sms"}),
    }
)

EXPORT_CHANNELS_BY_VALUE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        **CHANNELS_BY_VALUE,
        **{
            value: CHANNELS_BY_VALUE["both" if flag else ""]
            for value, flag in EXPORT_FLAG_VALUES.items()
        },
        **dict.fromkeys(
            ("all", "unsubscribed", "opted out", "opted-out", "opt-out", "optout", "opt out"),
            CHANNELS_BY_VALUE["both"],
        ),
        **dict.fromkeys(
            ("subscribed", "opted in", "opted-in", "opt-in", "optin", "opt in"),
            CHANNELS_BY_VALUE[""],
        ),
        "e-mail": CHANNELS_BY_VALUE["email"],
        "mobile": CHANNELS_BY_VALUE["sms"],
    }
)
"""Channels that a customer unsubscribed from, by what exports write in such a column."""


class DateOrder(StrEnum):
    """The order of day and month in dates like 03/04/2026."""

    DAY_FIRST = "day_first"
    MONTH_FIRST = "month_first"


class WrongValue(ValueError):
    """A cell has a value that its column can't have. The message says what is expected."""


def parse_choice(column: str, text: str, meanings: Mapping[str, T]) -> T:
    """Return what a cell means; raise WrongValue for a text that isn't a key of `meanings`."""
    try:
        return meanings[text.lower()]
    except KeyError:
        expected = ", ".join(islice(filter(None, meanings), MAX_LISTED_VALUES))
        raise WrongValue(f"{column}: got {text[:80]!r}; expected {expected} or nothing") from None


def parse_count(column: str, text: str) -> int:
    """Return the number in a cell, 0 for an empty one, or raise WrongValue."""
    digits = text or "0"
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= MAX_COUNT_DIGITS):
        raise WrongValue(f"{column}: got {text[:80]!r}; expected a whole number, 0 or more")
    return int(digits)


_MONTH_NAMES = "jan feb mar apr may jun jul aug sep oct nov dec"
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES.split(), start=1)}
_TIME = r"(?:[T ]+\d{1,2}:\d\d.*)?"
_YEAR_FIRST = re.compile(rf"(\d{{4}})[-/.](\d{{1,2}})[-/.](\d{{1,2}}){_TIME}")
_YEAR_LAST = re.compile(rf"(\d{{1,2}})[-/. ](\d{{1,2}})[-/. ](\d{{4}}|\d\d){_TIME}")
_DAY_NAMED_MONTH = re.compile(
    rf"(\d{{1,2}})(?:st|nd|rd|th)?[-. ]+([a-z]{{3}})[a-z]*[-., ]+(\d{{4}}|\d\d){_TIME}",
    re.IGNORECASE,
)
_NAMED_MONTH_DAY = re.compile(
    rf"([a-z]{{3}})[a-z]*\.? +(\d{{1,2}})(?:st|nd|rd|th)?,? +(\d{{4}}){_TIME}", re.IGNORECASE
)


def parse_date(text: str, order: DateOrder | None) -> str | None:
    """Return a date as YYYY-MM-DD, or None if the text isn't a date, or is ambiguous.

    Args:
        text: the text; a time of day after the date is left out.
        order: which of two numbers is the day, where both could be. None leaves those ambiguous.
    """
    if match := _YEAR_FIRST.fullmatch(text):
        year, month, day = map(int, match.groups())
        return _format_date(year, month, day)
    if match := _DAY_NAMED_MONTH.fullmatch(text):
        return _format_date(int(match[3]), _MONTHS.get(match[2].lower(), 0), int(match[1]))
    if match := _NAMED_MONTH_DAY.fullmatch(text):
        return _format_date(int(match[3]), _MONTHS.get(match[1].lower(), 0), int(match[2]))
    if match := _YEAR_LAST.fullmatch(text):
        one, other, year = map(int, match.groups())
        by_order = {
            DateOrder.DAY_FIRST: _format_date(year, other, one),
            DateOrder.MONTH_FIRST: _format_date(year, one, other),
        }
        readings = {iso for iso in by_order.values() if iso is not None}
        if len(readings) == 1:
            return readings.pop()
        return None if order is None else by_order[order]
    return None


def read_date_order(text: str) -> DateOrder | None:
    """Return the order of day and month that a date proves, or None."""
    match = _YEAR_LAST.fullmatch(text)
    if match is None:
        return None
    one, other, year = map(int, match.groups())
    is_day_first = _format_date(year, other, one) is not None
    is_month_first = _format_date(year, one, other) is not None
    if is_day_first == is_month_first:
        return None
    return DateOrder.DAY_FIRST if is_day_first else DateOrder.MONTH_FIRST


def is_ambiguous_date(text: str) -> bool:
    """Return whether a text is one date with the day first, and another with the month first."""
    orders = {parse_date(text, order) for order in DateOrder}
    return parse_date(text, None) is None and None not in orders


def _format_date(year: int, month: int, day: int) -> str | None:
    try:
        return date(year if year > 99 else CURRENT_CENTURY + year, month, day).isoformat()
    except ValueError:
        return None
