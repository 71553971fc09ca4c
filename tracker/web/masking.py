"""Contact data, masked: enough to recognise one's own, not enough to write to somebody."""

from collections.abc import Mapping

HIDDEN = "•••"

SHOWN_DIGITS = 2
"""Digits of a number that are left, at its end."""


def mask_email(address: str) -> str:
    """``a•••@example.com`` for an address; what is none is hidden but for its first character."""
    name, at, domain = address.rpartition("@")
    return f"{name[:1]}{HIDDEN}@{domain}" if at else f"{address[:1]}{HIDDEN}"


def mask_mobile(number: str) -> str:
    """``•••42`` for a number."""
    return HIDDEN + (number[-SHOWN_DIGITS:] if len(number) > 2 * SHOWN_DIGITS else "")


def masked(values: Mapping[str, object]) -> dict[str, object]:
    """Named values of which those that reach a person are masked."""
    return {name: _masked(name, value) for name, value in values.items()}


def _masked(name: str, value: object) -> object:
    if not isinstance(value, str):
        return HIDDEN if "@" in str(value) else value
    last = name.rpartition(".")[2]
    if last.startswith("mobile"):
        return mask_mobile(value)
    return mask_email(value) if last == "email" or "@" in value else value
