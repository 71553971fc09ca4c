"""Masks for contact data: its owner recognizes it, and no one can write to it."""

from collections.abc import Mapping

MASK = "•••"

VISIBLE_DIGITS = 2
"""Last digits of a mobile number that stay visible."""


def mask_email(address: str) -> str:
    """Return an email address as `a•••@example.com`, and a text without an @ as `a•••`."""
    name, at, domain = address.rpartition("@")
    return f"{name[:1]}{MASK}@{domain}" if at else f"{address[:1]}{MASK}"


def mask_mobile(number: str) -> str:
    """Return a mobile number as `•••42`."""
    return MASK + (number[-VISIBLE_DIGITS:] if len(number) > 2 * VISIBLE_DIGITS else "")


def mask_contacts(values: Mapping[str, object]) -> dict[str, object]:
    """Return named values, with the contact data among them masked."""
    return {name: _mask_value(name, value) for name, value in values.items()}


def _mask_value(name: str, value: object) -> object:
    if not isinstance(value, str):
        return MASK if "@" in str(value) else value
    field = name.rpartition(".")[2]
    if field.startswith("mobile"):
        return mask_mobile(value)
    return mask_email(value) if field == "email" or "@" in value else value
