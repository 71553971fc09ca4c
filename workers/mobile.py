"""Parse mobile numbers as people write them; tell where a number is from, and its time zones."""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

MAX_E164_LENGTH = 16
"""The longest number in E.164: a plus sign and 15 digits."""

# phonenumbers is imported where a number is parsed: most commands parse none.


class NumberRule(StrEnum):
    """A rule that says which numbers count as mobile numbers.

    VALID: numbers of a range that is in use for mobile phones, and numbers reserved for fiction.
    POSSIBLE: all numbers of a length that their country has.
    """

    VALID = "valid"
    POSSIBLE = "possible"


RESERVED_FOR_FICTION = re.compile(
    r"\+447700900\d{3}"  # Ofcom, "Telephone numbers for use in TV and radio drama programmes"
    r"|\+1[2-9]\d\d55501\d\d"  # NANPA: line numbers 555-0100 to 555-0199 of each area
    r"|\+3363998\d{4}"  # ARCEP, numbering plan: 06 39 98 for audiovisual works
    r"|\+3532091\d{5}"  # ComReg, numbering conditions: 020 91 for drama
    r"|\+61491570(006|110|156|157|158|159|313|737)"  # ACMA, "Phone numbers for use in TV shows"
)
"""Mobile numbers that regulators reserve for films, examples and tests.

phonenumbers counts most of them as invalid.
"""

_NO_PART_OF_A_NUMBER = re.compile(r"[^\d+]")


def to_e164(mobile: str, region: str = "", rule: NumberRule = NumberRule.VALID) -> str | None:
    """Return a mobile number in E.164, or None if the text isn't exactly one mobile number.

    A text that begins with 00 may be international in every region. If it is a national mobile
    number, too, it isn't read. A text that isn't a mobile number is read without a doubled country
    code, or without a trunk prefix beside its country code.

    Args:
        mobile: the number as written.
        region: ISO 3166 code of the country whose national format is accepted. Without it the
            number must be international and begin with + or 00.
        rule: which numbers count.
    """
    home_region = find_home_region(region)
    readings = {_read(mobile, home_region, rule)}
    if mobile.startswith("00"):
        readings.add(_read(f"+{mobile[2:]}", None, rule))
    readings.discard(None)
    if not readings:
        texts = _drop_doubled_prefixes(mobile, home_region)
        repaired = (_read(text, None, NumberRule.VALID) for text in texts)
        return next((e164 for e164 in repaired if e164 is not None), None)
    return readings.pop() if len(readings) == 1 else None


def find_home_region(region: str) -> str | None:
    """Return the ISO 3166 code of a country in capitals if its numbers are known, or None."""
    import phonenumbers

    code = region.upper()
    return code if code in phonenumbers.SUPPORTED_REGIONS else None


def _read(text: str, region: str | None, rule: NumberRule) -> str | None:
    """Return the E.164 form of a text that a country's format fits, or None."""
    import phonenumbers

    number = _parse(text, region)
    if number is None:
        return None
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if number.extension or len(e164) > MAX_E164_LENGTH:
        return None
    if rule is NumberRule.POSSIBLE:
        return e164 if phonenumbers.is_possible_number(number) else None
    return e164 if _can_receive_sms(number, e164) else None


def _parse(text: str, region: str | None = None) -> "PhoneNumber | None":
    import phonenumbers

    try:
        return phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None


def _can_receive_sms(number: "PhoneNumber", e164: str) -> bool:
    """Return whether a number is of a range for mobile phones, or is reserved for fiction."""
    import phonenumbers

    # A number that isn't valid has no type.
    return RESERVED_FOR_FICTION.fullmatch(e164) is not None or phonenumbers.number_type(number) in (
        phonenumbers.PhoneNumberType.MOBILE,
        phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE,
    )


def _drop_doubled_prefixes(mobile: str, home_region: str | None) -> Iterator[str]:
    """Yield international numbers that a text may stand for, those with most of its digits first.

    The text may have its country code twice, or a trunk prefix before or after the code.
    """
    import phonenumbers

    text = _NO_PART_OF_A_NUMBER.sub("", mobile)
    digits = text.replace("+", "").lstrip("0")
    if text.startswith(("+", "00")):
        codes = [digits[:length] for length in (1, 2, 3)]
    else:
        codes = [str(phonenumbers.country_code_for_region(home_region or ""))]
    for code in codes:
        rest = digits.removeprefix(code)
        if rest == digits or int(code) not in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            continue
        yield f"+{code}{rest}"
        number = _parse(f"+{code}{rest}")
        if rest.startswith("0") and number and phonenumbers.is_valid_number(number):
            return  # In Italy, the first 0 belongs to the number of a fixed line.
        for prefix in ("0", "00", code, f"0{code}", f"00{code}", f"{code}0"):
            if rest.startswith(prefix):
                yield f"+{code}{rest.removeprefix(prefix)}"


def find_region(e164: str) -> str | None:
    """Return the ISO 3166 code of a number's country, or None if it belongs to none.

    A number of a range that isn't in use has the main country of its calling code.
    """
    import phonenumbers

    number = phonenumbers.parse(e164)
    region = phonenumbers.region_code_for_number(number)
    region = region or phonenumbers.region_code_for_country_code(number.country_code or 0)
    return region if region in phonenumbers.SUPPORTED_REGIONS else None


def find_time_zones(e164: str) -> tuple[str, ...]:
    """Return the names of all time zones that a number may be from, such as "Europe/Berlin"."""
    import phonenumbers
    from phonenumbers import timezone

    zones = timezone.time_zones_for_geographical_number(phonenumbers.parse(e164))
    return tuple(zone for zone in zones if zone != timezone.UNKNOWN_TIMEZONE)


def find_time_zones_of_region(region: str | None) -> tuple[str, ...]:
    """Return the names of all time zones of a country, given by its ISO 3166 code in capitals."""
    import pytz

    return () if region is None else tuple(pytz.country_timezones.get(region, ()))
