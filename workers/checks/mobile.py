"""Parse mobile numbers as people write them."""

MAX_E164_LENGTH = 16
"""The longest number in E.164: a plus sign and 15 digits."""


def to_e164(mobile: str, region: str = "") -> str | None:
    """Return a mobile number in E.164, or None if it is not a possible number.

    `region` is the ISO 3166 code of the country whose national format is accepted. Without it the
    number must be international and begin with + or 00.
    """
    import phonenumbers  # takes a twentieth of a second, and most commands parse no number

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
