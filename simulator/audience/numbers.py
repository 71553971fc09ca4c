"""Mobile numbers as the cells of exports have them, with the damage that spreadsheets do."""

import re

from simulator.audience.problems import MobileProblem, Repair
from workers.mobile import NumberRule, find_home_region, to_e164

_USUAL = re.compile(r"\+?[\d ()]{5,}(?:-[\d ()-]+)?")
"""A number without traces of a spreadsheet. Dates have fewer digits before a hyphen."""

_WRAPPED = re.compile(r"""'(.*)|="?([^"]*)"?|tel:(.*)""", re.IGNORECASE)
"""A number in a link, or in a notation that spreadsheets read as text: apostrophe or formula."""

_DECIMAL = re.compile(r"(\+?\d{6,})[.,](0+|\d{1,2})")
_EXPONENT = re.compile(r"\+?(\d)(?:[.,](\d+))?e\+?(\d{1,2})", re.IGNORECASE)
_DATE = re.compile(
    r"(?:(\d{4})([-/.])(\d{1,2})\2(\d{1,2})|(\d{1,2})([-/.])(\d{1,2})\6(?:\d{4}|\d{2}))"
    r"(?:[T ]\d{1,2}:\d\d.*)?"
)
_SEPARATOR = re.compile(r"[/;,|&\n\r]|\bor\b|\band\b|(?<=\d)\s*(?=\+)", re.IGNORECASE)
_TEXT = re.compile(r"[^\W\d_]")

MIN_NUMBER_DIGITS = 6
"""Digits of the shortest number that is looked for beside another one."""

MAX_MONTH, MAX_DAY = 12, 31


def parse_mobile_cell(
    cell: str, region: str, rule: NumberRule
) -> tuple[str | None, MobileProblem | Repair | None]:
    """Return the mobile number of a cell in E.164, and what was repaired or makes it unusable.

    A number is returned only if the cell has exactly one reading: a wrong number may belong to
    another person.

    Args:
        cell: the cell, not empty.
        region: ISO 3166 code of the country whose national format is accepted, or an empty text.
        rule: which numbers count.
    """
    if _USUAL.fullmatch(cell):
        e164 = to_e164(cell, region, rule)
        return e164, None if e164 is not None else _explain_unusable(cell, region)
    wrapped = _WRAPPED.fullmatch(cell)
    text = (wrapped[1] or wrapped[2] or wrapped[3] or "").strip() if wrapped else cell
    problem: MobileProblem | None = None
    if exponent := _EXPONENT.fullmatch(text):
        whole, fraction, power = exponent.groups(default="")
        if len(fraction) != int(power):
            return None, MobileProblem.SPREADSHEET
        text = whole + fraction
    elif decimal := _DECIMAL.fullmatch(text):
        if decimal[2].strip("0"):
            return None, MobileProblem.SPREADSHEET
        text = decimal[1]
    elif _is_date(text):
        return None, MobileProblem.DATE
    elif _TEXT.search(text) and not re.search(r"\b(or|and)\b", text, re.IGNORECASE):
        return None, MobileProblem.TEXT
    else:
        text, problem = _select_number(text, region, rule)
        if problem is not None:
            return None, problem
    e164 = to_e164(text, region, rule)
    if e164 is None:
        return None, _explain_unusable(text, region)
    return e164, None if text == cell else Repair.MOBILE


def _is_date(text: str) -> bool:
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    one, other = (int(group) for group in (match[3] or match[5], match[4] or match[7]))
    return 0 < min(one, other) <= MAX_MONTH and max(one, other) <= MAX_DAY


def _select_number(text: str, region: str, rule: NumberRule) -> tuple[str, MobileProblem | None]:
    """Return the only number of a text, or the problem that it has several."""
    parts = [part.strip() for part in _SEPARATOR.split(text)]
    numbers = [part for part in parts if sum(map(str.isdigit, part)) >= MIN_NUMBER_DIGITS]
    if len(numbers) <= 1:
        return text, None
    readings = {to_e164(number, region, rule) for number in numbers}
    return numbers[0], None if len(readings) == 1 else MobileProblem.TWO_NUMBERS


def _explain_unusable(text: str, region: str) -> MobileProblem:
    """Return why a text without spreadsheet damage isn't a mobile number."""
    import phonenumbers

    home_region = find_home_region(region)
    if home_region is None and text.startswith("00"):
        text = f"+{text[2:]}"
    if home_region is None and not text.startswith("+"):
        return MobileProblem.NO_COUNTRY
    try:
        number = phonenumbers.parse(text, home_region)
    except phonenumbers.NumberParseException:
        return MobileProblem.INVALID
    is_valid = phonenumbers.is_valid_number(number)
    return MobileProblem.NOT_MOBILE if is_valid else MobileProblem.INVALID
