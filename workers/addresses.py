"""Parse email addresses: which ones a mail server could accept, and when two are the same."""

import re
from typing import NamedTuple

# email-validator is imported only for addresses that aren't plain; most are plain.

MAX_LOCAL_CHARACTERS, MAX_ADDRESS_CHARACTERS = 64, 254
"""Lengths that RFC 5321 and RFC 3696 (erratum 1690) allow."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(
    rf"(?=[^@]{{1,{MAX_LOCAL_CHARACTERS}}}@)(?=.{{0,{MAX_ADDRESS_CHARACTERS}}}\Z)"
    rf"{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+(?=[A-Za-z0-9-]*[A-Za-z]\Z){_LABEL}"
)
"""Addresses without internationalized and quoted parts; nothing else has to be known of them."""

_ORDINARY_SUFFIX = ".example"
"""Domain below which names that email-validator refuses by their meaning are parsed."""

_JOINERS = re.compile("[\u200c\u200d]")
"""Zero-width characters that some domains need after certain letters (RFC 5892, appendix A)."""

_IDEOGRAPHIC_DOTS = re.compile("[\u3002\uff0e\uff61]")
"""Characters that separate the labels of a domain as a dot does (UTS 46)."""

_MAY_HAVE_JOINERS = re.compile(f"xn--|{_JOINERS.pattern}", re.IGNORECASE)


class EmailAddress(NamedTuple):
    """An email address that a mail server could accept.

    Attributes:
        text: the address as it is sent: its domain in ASCII, its local part in its own case.
        key: the same for all notations of the address that count as one.
    """

    text: str
    key: str


def is_well_formed(address: str) -> bool:
    """Return whether a mail server could accept an address, whether it exists or not."""
    return _PLAIN.fullmatch(address) is not None or parse_address(address) is not None


def parse_address(address: str) -> EmailAddress | None:
    """Return an address as it is sent and compared, or None if it is malformed.

    Domains that are reserved, such as `shop.test`, are well-formed. A tag (`ana+news@…`) is a part
    of the address.
    """
    if _PLAIN.fullmatch(address) is None:
        return _parse_unusual(address)
    local_part, _, domain = address.rpartition("@")
    domain = domain.lower()
    return EmailAddress(f"{local_part}@{domain}", f"{local_part.lower()}@{domain}")


def _parse_unusual(address: str) -> EmailAddress | None:
    """Return an address that may be internationalized or quoted, or None if it is malformed."""
    local_part, _, domain = address.rpartition("@")
    domain = _IDEOGRAPHIC_DOTS.sub(".", domain)
    if not local_part or "." not in domain:
        return None
    address = f"{local_part}@{domain}"
    import unicodedata

    from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

    joined_domain = _encode_joined_domain(domain)
    if joined_domain is not None:
        if len(f"{local_part}@{joined_domain}") > MAX_ADDRESS_CHARACTERS:
            return None
        address, domain = f"{local_part}@joined{_ORDINARY_SUFFIX}", f"joined{_ORDINARY_SUFFIX}"
    is_special = domain.rpartition(".")[2].lower() in SPECIAL_USE_DOMAIN_NAMES
    suffix = _ORDINARY_SUFFIX if is_special else ""
    try:
        parsed = validate_email(
            address + suffix, allow_quoted_local=True, check_deliverability=False, strict=True
        )
    except EmailNotValidError:
        return None
    domain = joined_domain or (parsed.ascii_domain or "").removesuffix(suffix)
    key = unicodedata.normalize("NFC", parsed.local_part.casefold())
    return EmailAddress(f"{parsed.local_part}@{domain}", f"{key}@{domain}")


def _encode_joined_domain(domain: str) -> str | None:
    """Return a domain in ASCII if it needs joiners, which email-validator refuses; else None."""
    if _MAY_HAVE_JOINERS.search(domain) is None:
        return None
    import idna

    try:
        encoded = idna.encode(domain, uts46=True).decode()
        return encoded if _JOINERS.search(idna.decode(encoded)) else None
    except idna.IDNAError:
        return None
