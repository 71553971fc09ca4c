"""Bounce causes: why a recipient's side returned a message.

A cause is read from the enhanced mail system status code (RFC 3463) in the gateway's explanation.
The class of the code, its first digit, isn't used: whether a bounce is hard or soft is what the
gateway says.
"""

import re
from enum import IntEnum
from types import MappingProxyType
from typing import Self

MAX_BOUNCE_LIMIT = 1_000
"""Most bounces that an organization's limit may allow."""


class BounceCause(IntEnum):
    """The cause of a bounce. The database stores the codes, which never change their meaning."""

    enhanced_code: str
    meaning: str

    def __new__(cls, code: int, enhanced_code: str = "", meaning: str = "") -> Self:
        """Make a member; the other values are its enhanced status code, if any, and its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.enhanced_code = enhanced_code
        member.meaning = meaning
        return member

    OTHER = 0, "", "The gateway gave another cause, or none."
    UNKNOWN_RECIPIENT = 1, "5.1.1", "The mailbox doesn't exist."
    UNKNOWN_DOMAIN = 2, "5.1.2", "The domain doesn't exist or accepts no email."
    INVALID_NUMBER = 3, "", "The mobile number doesn't exist."
    MAILBOX_FULL = 4, "4.2.2", "The mailbox is full."
    SERVER_DOWN = 5, "4.4.1", "The recipient's server didn't answer."
    MESSAGE_TOO_LARGE = 6, "5.3.4", "The message is larger than the recipient's server allows."
    UNREACHABLE = 7, "", "The mobile phone was switched off or out of reach."

    @property
    def slug(self) -> str:
        """The name in JSON and in scenario files."""
        return self.name.lower()

    @property
    def title(self) -> str:
        """The label in the report."""
        return self.slug.replace("_", " ").capitalize()

    @property
    def explanation(self) -> str:
        """The text by which `classify_bounce` recognizes the cause."""
        return f"{self.enhanced_code} {self.slug.replace('_', ' ')}".strip()


_ENHANCED_CODE = re.compile(r"(?<![\d.])[245]\.(\d{1,3}\.\d{1,3})(?![\d.])")

_CAUSE_BY_DETAIL = MappingProxyType(
    {
        "1.1": BounceCause.UNKNOWN_RECIPIENT,
        "1.2": BounceCause.UNKNOWN_DOMAIN,
        "2.2": BounceCause.MAILBOX_FULL,
        "2.3": BounceCause.MESSAGE_TOO_LARGE,
        "3.4": BounceCause.MESSAGE_TOO_LARGE,
        "4.1": BounceCause.SERVER_DOWN,
        "4.2": BounceCause.SERVER_DOWN,
    }
)
"""Causes by subject and detail of the enhanced status code."""

_CAUSE_BY_EXPLANATION = MappingProxyType(
    {cause.explanation: cause for cause in BounceCause if not cause.enhanced_code}
)


def classify_bounce(explanation: str | None) -> BounceCause:
    """Return the cause of a bounce that a gateway explains, such as `550 5.1.1 no such user`."""
    if not explanation:
        return BounceCause.OTHER
    code = _ENHANCED_CODE.search(explanation)
    if code is not None:
        return _CAUSE_BY_DETAIL.get(code[1], BounceCause.OTHER)
    return _CAUSE_BY_EXPLANATION.get(explanation, BounceCause.OTHER)
