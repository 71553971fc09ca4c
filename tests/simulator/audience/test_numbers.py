"""Mobile numbers in cells: damage is undone where one reading is left, else the cause is named."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from simulator.audience.numbers import parse_mobile_cell
from simulator.audience.problems import MobileProblem, Repair
from workers.mobile import NumberRule, to_e164

NUMBER = "+447700900123"


def parse(
    cell: str, region: str = "GB", rule: NumberRule = NumberRule.VALID
) -> tuple[str | None, MobileProblem | Repair | None]:
    return parse_mobile_cell(cell, region, rule)


@pytest.mark.parametrize(
    ("cell", "region"),
    [
        ("07700 900123", "GB"),
        ("07700-900-123", "GB"),
        ("07700.900.123", "GB"),
        ("(07700) 900123", "GB"),
        ("+44 (0)7700 900123", ""),
        ("+44\u00a07700\u00a0900123", ""),
        ("447700900123", "GB"),
        ("+44 44 7700 900123", ""),
        ("0447700900123", "GB"),
    ],
)
def test_numbers_as_people_write_them(cell: str, region: str) -> None:
    assert parse(cell, region) == (NUMBER, None)


@pytest.mark.parametrize(
    ("cell", "region"),
    [
        ("7700900123.0", "GB"),
        ("7700900123,00", "GB"),
        ("447700900123.0", "GB"),
        ("+447700900123.0", ""),
        ("7.700900123E9", "GB"),
        ("4.47700900123e+11", "GB"),
        ("'07700900123", "GB"),
        ("'+447700900123", ""),
        ('="07700900123"', "GB"),
        ("=+447700900123", ""),
        ("tel:+44-7700-900123", ""),
        ("07700 900123 / 07700-900123", "GB"),
    ],
)
def test_damage_with_one_reading_is_undone(cell: str, region: str) -> None:
    assert parse(cell, region) == (NUMBER, Repair.MOBILE)


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("7.70E9", MobileProblem.SPREADSHEET),
        ("7.7009E+09", MobileProblem.SPREADSHEET),
        ("4,47701E+11", MobileProblem.SPREADSHEET),
        ("7.70090012E9", MobileProblem.SPREADSHEET),
        ("7700900123.50", MobileProblem.SPREADSHEET),
        ("2026-11-30", MobileProblem.DATE),
        ("30.11.1985", MobileProblem.DATE),
        ("11/30/85", MobileProblem.DATE),
        ("1985-11-30 00:00:00", MobileProblem.DATE),
        ("07700900123; 07700900124", MobileProblem.TWO_NUMBERS),
        ("07700900123 / 07700900124", MobileProblem.TWO_NUMBERS),
        ("07700 900123\n07700 900124", MobileProblem.TWO_NUMBERS),
        ("07700 900123 or 07700 900124", MobileProblem.TWO_NUMBERS),
        ("+447700900123+447700900124", MobileProblem.TWO_NUMBERS),
        ("none given", MobileProblem.TEXT),
        ("07700 900123 (work)", MobileProblem.TEXT),
        ("07700 900123 x4", MobileProblem.TEXT),
        ("30-Nov-1985", MobileProblem.TEXT),
        ("020 7946 0958", MobileProblem.NOT_MOBILE),
        ("0808 157 0123", MobileProblem.NOT_MOBILE),
        ("07700 90012", MobileProblem.INVALID),
        ("07700 9001234", MobileProblem.INVALID),
        ("0000000000", MobileProblem.INVALID),
        ("12", MobileProblem.INVALID),
        ("+", MobileProblem.INVALID),
    ],
)
def test_numbers_without_a_certain_reading(cell: str, problem: MobileProblem) -> None:
    assert parse(cell) == (None, problem)


@pytest.mark.parametrize("cell", ["07700 900123", "7700900123.0", "447700900123"])
@pytest.mark.parametrize("region", ["", "XX"])
def test_a_national_number_needs_a_country(cell: str, region: str) -> None:
    assert parse(cell, region) == (None, MobileProblem.NO_COUNTRY)


def test_possible_numbers_are_accepted_on_demand_but_damage_is_not() -> None:
    assert parse("020 7946 0958", rule=NumberRule.POSSIBLE) == ("+442079460958", None)
    assert parse("7.70E9", rule=NumberRule.POSSIBLE) == (None, MobileProblem.SPREADSHEET)
    assert parse("30.11.1985", "DE", NumberRule.POSSIBLE) == (None, MobileProblem.DATE)


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS - {"TA"}))
def test_no_country_reads_a_damaged_number_as_another(region: str) -> None:
    """The spreadsheet's float is read as the number; what it has rounded isn't read at all."""
    number = phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE)
    assert number is not None
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    digits = e164[1:]
    assert parse(f"{digits}.0", region)[0] in (e164, None)
    assert parse(f"{e164}.0", "")[0] in (e164, None)
    assert parse(f"{digits[0]}.{digits[1:]}E{len(digits) - 1}", region)[0] == e164
    assert parse(f"{digits[0]}.{digits[1:6]}E+{len(digits) - 1}", region)[0] is None
    for date in ("2020-01-31", "31.01.2020", "1/31/20", "1980-12-24"):
        assert parse(date, region) == (None, MobileProblem.DATE)


@given(st.text(st.sampled_from("0123456789+-./ ()E,;'=x"), min_size=1, max_size=30))
def test_every_number_that_is_read_is_a_mobile_number_in_e164(cell: str) -> None:
    e164, problem = parse(cell)
    if e164 is None:
        assert isinstance(problem, MobileProblem)
    else:
        assert to_e164(e164) == e164
