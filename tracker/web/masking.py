"""Contact data, masked: enough to recognise one's own, not enough to write to somebody."""

from collections.abc import Mapping

MASK = "•••"

VISIBLE_DIGITS = 2
"""Digits of a number that are left, at its end."""


def mask_email(address: str) -> str:
    """``a•••@example.com`` for an address; what is none is hidden but for its first character."""
    name, at, domain = address.rpartition("@")
    return f"{name[:1]}{MASK}@{domain}" if at else f"{address[:1]}{MASK}"


def mask_mobile(number: str) -> str:
    """``•••42`` for a number."""
    return MASK + (number[-VISIBLE_DIGITS:] if len(number) > 2 * VISIBLE_DIGITS else "")


def mask_contacts(values: Mapping[str, object]) -> dict[str, object]:
    """Named values of which those that reach a person are masked."""
    return {name: _mask_value(name, value) for name, value in values.items()}


def _mask_value(name: str, value: object) -> object:
    if not isinstance(value, str):
        return MASK if "@" in str(value) else value
    last = name.rpartition(".")[2]
    if last.startswith("mobile"):
        return mask_mobile(value)
    return mask_email(value) if last == "email" or "@" in value else value
