"""Mobile numbers, read as people write them."""

import phonenumbers

MAX_E164_LENGTH = 16
"""Characters: a plus sign and 15 digits."""


def to_e164(mobile: str, region: str = "") -> str | None:
    """A number in E.164, or None where it is no possible one; ``region`` is an ISO 3166 code."""
    home = region.upper() if region.upper() in phonenumbers.SUPPORTED_REGIONS else None
    if home is None and mobile.startswith("00"):
        mobile = f"+{mobile[2:]}"
    try:
        number = phonenumbers.parse(mobile, home)
    except phonenumbers.NumberParseException:
        return None
    text = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return (
        text if phonenumbers.is_possible_number(number) and len(text) <= MAX_E164_LENGTH else None
    )
