"""Parse mobile numbers as people write them; tell where a number is from, and its time zones."""

MAX_E164_LENGTH = 16
"""The longest number in E.164: a plus sign and 15 digits."""

# phonenumbers takes a twentieth of a second to import, and most commands parse no number.


def to_e164(mobile: str, region: str = "") -> str | None:
    """Return a mobile number in E.164, or None if it is not a possible number.

    `region` is the ISO 3166 code of the country whose national format is accepted. Without it the
    number must be international and begin with + or 00.
    """
    import phonenumbers

    home_region = region.upper() if region.upper() in phonenumbers.SUPPORTED_REGIONS else None
    if home_region is None and mobile.startswith("00"):
        mobile = f"+{mobile[2:]}"
    try:
        number = phonenumbers.parse(mobile, home_region)
    except phonenumbers.NumberParseException:
        return None
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if not phonenumbers.is_possible_number(number) or len(e164) > MAX_E164_LENGTH:
        return None
    return e164


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
