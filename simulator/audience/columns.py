"""The columns of an audience file."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class ColumnDescription:
    """The content of a column, for the reference.

    Attributes:
        default: meaning of an empty cell or a missing column.
        is_single_line: whether a line break in a cell can only come from a stray quote.
    """

    content: str
    default: str
    is_single_line: bool = True


_FLAG_CONTENT = "`yes`, `no`, `true`, `false`, `1` or `0`"

COLUMN_DESCRIPTIONS: Mapping[str, ColumnDescription] = MappingProxyType(
    {
        "customer_id": ColumnDescription("id of the customer, unique in the file", "required"),
        "email": ColumnDescription("email address; malformed ones are kept and bounce", "none"),
        "mobile": ColumnDescription("mobile number, national or international", "none"),
        "region": ColumnDescription(
            "two-letter country code, like `GB`: a national number is read in it, and rules see"
            " it as `field:region`",
            "international numbers only",
        ),
        "loyalty_member": ColumnDescription(f"loyalty membership: {_FLAG_CONTENT}", "no"),
        "unsubscribed": ColumnDescription(
            "channels that the customer unsubscribed from: `email`, `sms` or `both`", "none"
        ),
        "ndnc": ColumnDescription(f"National Do Not Call list: {_FLAG_CONTENT}", "no"),
        "hard_bounces": ColumnDescription("earlier hard bounces, counted for both channels", "0"),
        "soft_bounces": ColumnDescription(
            "soft bounces since the last delivery, counted for both channels", "0"
        ),
        "coupon_id": ColumnDescription("id of the customer's coupon", "none"),
        "coupon_expires": ColumnDescription(
            "last day of the coupon, as YYYY-MM-DD", "never expires"
        ),
        "coupon_redeemed": ColumnDescription(f"used coupon: {_FLAG_CONTENT}", "no"),
        "last_store": ColumnDescription("store of the last visit", "none", is_single_line=False),
        "profile": ColumnDescription("profile of the customer", "none", is_single_line=False),
    }
)
"""Columns with a fixed name, in the order of the reference."""

CUSTOM_COLUMN_DESCRIPTION = "custom data, which campaigns may require; any number of these columns"

COLUMNS = tuple(COLUMN_DESCRIPTIONS)

CUSTOM_PREFIXES = ("tag:", "field:")

OPT_COLUMNS: Mapping[str, tuple[bool, frozenset[str]]] = MappingProxyType(
    {
        "unsubscribed_email": (True, frozenset({"email"})),
        "unsubscribed_sms": (True, frozenset({"sms"})),
        "subscribed": (False, frozenset({"email", "sms"})),
        "subscribed_email": (False, frozenset({"email"})),
        "subscribed_sms": (False, frozenset({"sms"})),
    }
)
"""Columns that only mapped files have: the flag that means unsubscribed, and from which channels.

An empty cell of a column of consent means that the customer hasn't consented.
"""

IGNORED = "ignore"
"""What a heading is mapped to if its column isn't imported."""

TARGETS = (*COLUMNS, *OPT_COLUMNS, IGNORED)
"""What a heading can be mapped to, besides `tag:NAME` and `field:NAME`."""

SINGLE_LINE_COLUMNS = frozenset(
    (*(name for name, column in COLUMN_DESCRIPTIONS.items() if column.is_single_line), *OPT_COLUMNS)
)


def is_target(text: str) -> bool:
    """Return whether a heading can be mapped to a text."""
    has_custom_name = any(
        text.startswith(prefix) and text.removeprefix(prefix).strip() for prefix in CUSTOM_PREFIXES
    )
    return text in TARGETS or has_custom_name
