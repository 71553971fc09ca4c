"""Mobile numbers: each notation of a number is read as that number, or not at all."""

from collections.abc import Iterator

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from workers.mobile import NumberRule, to_e164

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)

UNREACHABLE_TYPES = [
    PhoneNumberType.FIXED_LINE,
    PhoneNumberType.PREMIUM_RATE,
    PhoneNumberType.TOLL_FREE,
    PhoneNumberType.SHARED_COST,
    PhoneNumberType.VOIP,
    PhoneNumberType.PAGER,
    PhoneNumberType.UAN,
    PhoneNumberType.VOICEMAIL,
]

OTHER_IDD = ("US", "JP", "AU", "BR")
"""Regions where 00 isn't the prefix of international calls."""

ZERO_BEFORE_OTHER_NUMBERS = ("AC", "IT", "VA")
"""Regions where a mobile number with 0 before it is another number."""

AMBIGUOUS = {("TJ", "BR")}
"""A number after 00 that is a number of Brazil as well."""


def example(region: str, kind: int) -> phonenumbers.PhoneNumber | None:
    return phonenumbers.example_number_for_type(region, kind)


def spell(number: phonenumbers.PhoneNumber, region: str) -> Iterator[tuple[str, str]]:
    """Yield ways to write a number, each with the region of its row."""
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    digits, code = e164[1:], number.country_code
    yield e164, ""
    yield e164, region
    yield phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL), ""
    yield phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL), region
    yield f"00{digits}", ""
    yield f"00{digits}", region
    yield digits, region
    yield f"+{code}{digits}", ""  # the country code twice
    if region not in ZERO_BEFORE_OTHER_NUMBERS:
        yield f"+{code} 0{digits.removeprefix(str(code))}", ""  # the trunk prefix after it
    yield f"0{digits}", region  # the trunk prefix before it
    for other in OTHER_IDD:
        if (region, other) not in AMBIGUOUS:
            yield f"00{digits}", other


@pytest.mark.parametrize("region", [region for region in REGIONS if region != "TA"])
def test_a_mobile_number_of_each_country_however_it_is_written(region: str) -> None:
    number = example(region, PhoneNumberType.MOBILE)
    assert number is not None
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    wrong = {
        (text, row_region): read
        for text, row_region in spell(number, region)
        if (read := to_e164(text, row_region)) != e164
    }
    assert wrong == {}


@pytest.mark.parametrize("region", ["BR", "SG"])
def test_a_number_with_two_readings_is_not_used(region: str) -> None:
    """Singapore dials 001 to 003 and a country code, which may be another country's as well."""
    ambiguous = 0
    for country in REGIONS:
        number = example(country, PhoneNumberType.MOBILE)
        if number is not None:
            e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
            read = to_e164(f"00{e164[1:]}", region)
            assert read in (e164, None), country
            ambiguous += read is None
    assert ambiguous


@pytest.mark.parametrize("kind", UNREACHABLE_TYPES)
def test_numbers_that_get_no_sms(kind: int) -> None:
    reachable = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)
    tried = 0
    for region in REGIONS:
        number = example(region, kind)
        if number is None or phonenumbers.number_type(number) in reachable:
            continue
        tried += 1
        national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
        e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
        assert (to_e164(national, region), to_e164(e164)) == (None, None), region
        assert to_e164(e164, rule=NumberRule.POSSIBLE) == e164
    assert tried >= 15


@pytest.mark.parametrize("prefix", ["+39", "0039 "])
def test_a_fixed_line_keeps_a_zero_that_belongs_to_it(prefix: str) -> None:
    """Without the 0, the fixed line in Varese would be a mobile number of another person."""
    for national in ("0332 123456", "0331 234567", "031 9123456"):
        assert phonenumbers.is_valid_number(phonenumbers.parse(national, "IT"))
        assert to_e164(f"{prefix}{national}") is None
        assert to_e164(f"{prefix}{national}", "IT") is None


@pytest.mark.parametrize(
    "e164",
    [
        "+447700900000",
        "+447700900999",
        "+12125550100",
        "+12125550199",
        "+33639980000",
        "+33639989999",
        "+353209100000",
        "+61491570006",
        "+61491570156",
        "+46701740605",
    ],
)
def test_numbers_that_are_reserved_for_fiction(e164: str) -> None:
    assert to_e164(e164) == e164


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("+447700900", ""),
        ("+44770090012", ""),
        ("+33639970000", ""),
        ("07700 90012", "GB"),
        ("07700 9001234", "GB"),
        ("07700 900123", ""),
        ("0447700900123", ""),
        ("07700 900123 ext. 4", "GB"),
        ("", "GB"),
        ("+", ""),
        ("00", ""),
        ("0" * 300, "GB"),
    ],
)
def test_texts_that_are_not_mobile_numbers(text: str, region: str) -> None:
    assert to_e164(text, region) is None
