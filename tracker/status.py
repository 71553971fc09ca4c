"""The vocabulary: what can be said of a message, and which changes are legal.

This module imports nothing of ours. Everything else that needs a set of statuses or
reasons derives it from here: the database's constraints, the report, the audit, the docs.

Codes are what the database stores. They never change their meaning; new members get new codes.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, Self


class Channel(StrEnum):
    """How a campaign reaches its customers."""

    EMAIL = "email"
    SMS = "sms"


class Step(StrEnum):
    """What is done to a batch. All but ``enqueue_batch`` are Celery tasks, named ``workers.STEP``."""

    ENQUEUE = "enqueue"
    SUPPRESS = "suppress"
    VALIDATE = "validate"
    DISPATCH = "dispatch"
    SUBMIT = "submit"
    DELIVER = "deliver"
    ENGAGE = "engage"


class Status(IntEnum):
    """What the record says of a message. The codes follow the order of the lifecycle."""

    meaning: str

    def __new__(cls, code: int, *about: Any) -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        (member.meaning,) = about
        return member

    QUEUED = 0, "Recorded, and waiting for the checks."
    ABOUT_TO_BE_SENT = 1, "Passed every check, and waits to be handed to the gateway."
    NOT_SENT = 2, "Stopped before the gateway, for exactly one reason."
    IN_GATEWAY = 3, "Accepted by the gateway, which has not yet said what became of it."
    SOFT_BOUNCED = 4, "Refused for now; sent again while attempts are left."
    NOT_DELIVERED = 5, "Given up by the gateway, without a bounce."
    DELIVERED = 6, "Reached the recipient."
    HARD_BOUNCED = 7, "Refused for good."

    @property
    def slug(self) -> str:
        return self.name.lower()


LEGAL_TRANSITIONS: Mapping[Status | None, frozenset[Status]] = MappingProxyType(
    {
        None: frozenset({Status.QUEUED}),
        Status.QUEUED: frozenset({Status.ABOUT_TO_BE_SENT, Status.NOT_SENT}),
        Status.ABOUT_TO_BE_SENT: frozenset({Status.IN_GATEWAY, Status.NOT_SENT}),
        Status.NOT_SENT: frozenset(),
        Status.IN_GATEWAY: frozenset(
            {Status.DELIVERED, Status.HARD_BOUNCED, Status.SOFT_BOUNCED, Status.NOT_DELIVERED}
        ),
        Status.SOFT_BOUNCED: frozenset({Status.IN_GATEWAY}),
        Status.NOT_DELIVERED: frozenset(),
        Status.DELIVERED: frozenset({Status.HARD_BOUNCED}),
        Status.HARD_BOUNCED: frozenset(),
    }
)
"""Which statuses may follow which. ``None`` stands for a message that does not exist yet."""

LATE_TRANSITIONS = frozenset({(Status.DELIVERED, Status.HARD_BOUNCED)})
"""Legal changes that nobody waits for: the outside world may still bring them about."""


def _find_reachable_statuses(start: Status) -> frozenset[Status]:
    found = {start}
    frontier = [start]
    while frontier:
        for following in LEGAL_TRANSITIONS[frontier.pop()] - found:
            found.add(following)
            frontier.append(following)
    return frozenset(found)


SENT_STATUSES = _find_reachable_statuses(Status.IN_GATEWAY)
"""Statuses of a message that a gateway has accepted."""

IN_PROGRESS_STATUSES = frozenset(Status) - SENT_STATUSES - {Status.NOT_SENT}
"""Statuses of a message that is still on its way to the gateway."""

FINAL_STATUSES = frozenset(
    status
    for status in Status
    if all((status, following) in LATE_TRANSITIONS for following in LEGAL_TRANSITIONS[status])
)
"""Statuses that nothing is waiting to change. A soft bounce is final only with no attempt left."""


def is_settled(status: Status, attempt: int, attempts: int) -> bool:
    """Whether a message needs no more work, of the ``attempts`` that its campaign allows."""
    return status in FINAL_STATUSES or (status is Status.SOFT_BOUNCED and attempt >= attempts)


class ReceiptVerdict(StrEnum):
    """Why a receipt does not count."""

    DUPLICATE = "duplicate"
    STALE = "stale"
    UNKNOWN = "unknown"


class Engagement(IntEnum):
    """What a recipient does with a delivered message.

    A machine opens it within a second, on its way or in its box: that is not the recipient.
    """

    OPENED = 1
    CLICKED = 2
    SPAM = 3
    UNSUBSCRIBED = 4
    MACHINE_OPENED = 5

    @property
    def slug(self) -> str:
        return self.name.lower()


IMPLIED_ENGAGEMENTS: Mapping[Engagement, frozenset[Engagement]] = MappingProxyType(
    {
        Engagement.CLICKED: frozenset({Engagement.OPENED}),
        Engagement.UNSUBSCRIBED: frozenset({Engagement.CLICKED, Engagement.OPENED}),
    }
)
"""What a recipient must have done before."""

OPT_OUTS = frozenset({Engagement.SPAM, Engagement.UNSUBSCRIBED})
"""After these a customer gets no more messages on the channel."""


class Category(StrEnum):
    """The three headings under which the report lists reasons, with their wording there."""

    heading: str

    def __new__(cls, slug: str, *about: Any) -> Self:
        member = str.__new__(cls, slug)
        member._value_ = slug
        (member.heading,) = about
        return member

    INTERNALLY_SUPPRESSED = "internally_suppressed", "Internally Suppressed List"
    INCOMPLETE_OR_INVALID = "incomplete_or_invalid", "Incomplete/Invalid Information"
    SYSTEM_ERROR = "system_error", "System Error"


class Reason(IntEnum):
    """Why a message was Not Sent. Within a step, the order here is the order of the checks."""

    category: Category
    step: Step
    meaning: str

    def __new__(cls, code: int, *about: Any) -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        member.category, member.step, member.meaning = about
        return member

    ORGANIZATION_DISABLED = (
        1,
        Category.INTERNALLY_SUPPRESSED,
        Step.SUPPRESS,
        "The organization is disabled.",
    )
    CONFIGURATION = (
        2,
        Category.INTERNALLY_SUPPRESSED,
        Step.SUPPRESS,
        "The organization's or the campaign's configuration does not allow the channel.",
    )
    UNSUBSCRIBED = (
        3,
        Category.INTERNALLY_SUPPRESSED,
        Step.SUPPRESS,
        "The customer unsubscribed from marketing on this channel.",
    )
    NDNC = (
        4,
        Category.INTERNALLY_SUPPRESSED,
        Step.SUPPRESS,
        "The customer is on the National Do Not Call list.",
    )
    BOUNCED_REPEATEDLY = (
        5,
        Category.INTERNALLY_SUPPRESSED,
        Step.SUPPRESS,
        "Earlier messages to this address bounced.",
    )
    MESSAGE_LIMIT = (
        6,
        Category.INTERNALLY_SUPPRESSED,
        Step.SUPPRESS,
        "The customer has had as many messages in the period as the organization allows.",
    )
    OUT_OF_CREDIT = (
        7,
        Category.INTERNALLY_SUPPRESSED,
        Step.DISPATCH,
        "The organization has no credit left.",
    )
    EMAIL_MISSING = (
        8,
        Category.INCOMPLETE_OR_INVALID,
        Step.VALIDATE,
        "The customer has no email address.",
    )
    MOBILE_MISSING_OR_INVALID = (
        9,
        Category.INCOMPLETE_OR_INVALID,
        Step.VALIDATE,
        "The customer has no mobile number, or not a possible one.",
    )
    NOT_IN_LOYALTY_PROGRAM = (
        10,
        Category.INCOMPLETE_OR_INVALID,
        Step.VALIDATE,
        "The campaign is for members of the loyalty program and the customer is none.",
    )
    COUPON_CONFIGURATION = (
        11,
        Category.INCOMPLETE_OR_INVALID,
        Step.VALIDATE,
        "The campaign's coupon series does not exist or is not active.",
    )
    COUPON_ID_MISSING = (
        12,
        Category.INCOMPLETE_OR_INVALID,
        Step.VALIDATE,
        "The customer has no coupon of the series.",
    )
    COUPON_DATE_FORMAT = (
        13,
        Category.INCOMPLETE_OR_INVALID,
        Step.VALIDATE,
        "The coupon's expiry is not a date.",
    )
    COUPON_EXPIRED = (
        14,
        Category.INCOMPLETE_OR_INVALID,
        Step.VALIDATE,
        "The coupon has expired.",
    )
    COUPON_REDEEMED = (
        15,
        Category.INCOMPLETE_OR_INVALID,
        Step.VALIDATE,
        "The coupon was redeemed.",
    )
    DATA_MISSING = (
        16,
        Category.INCOMPLETE_OR_INVALID,
        Step.VALIDATE,
        "A tag, field, last shopped store or profile that the campaign needs is absent.",
    )
    GATEWAY_CONFIGURATION = (
        17,
        Category.INCOMPLETE_OR_INVALID,
        Step.VALIDATE,
        "No usable gateway is configured for the channel.",
    )
    TIMEOUT = (
        18,
        Category.SYSTEM_ERROR,
        Step.DISPATCH,
        "A step could not finish in time, after its retries.",
    )
    HANDLER_NOT_FOUND = (
        19,
        Category.SYSTEM_ERROR,
        Step.DISPATCH,
        "No handler is registered for the campaign's kind of message.",
    )
    COUPON_ISSUE = (
        20,
        Category.SYSTEM_ERROR,
        Step.VALIDATE,
        "The coupon service failed, after retries.",
    )
    REFERRAL_SERVICE = (
        21,
        Category.SYSTEM_ERROR,
        Step.VALIDATE,
        "The referral service failed, after retries.",
    )
    SUBSCRIPTION_SERVICE = (
        22,
        Category.SYSTEM_ERROR,
        Step.SUPPRESS,
        "The subscription service failed, after retries.",
    )

    @property
    def slug(self) -> str:
        return self.name.lower()

    @property
    def title(self) -> str:
        """The slug as the report words it."""
        return _TITLES.get(self.slug, self.slug.replace("_", " ").capitalize())


_TITLES = {
    "ndnc": "National Do Not Call list",
    "mobile_missing_or_invalid": "Mobile missing or invalid",
    "email_missing": "Email address missing",
}
