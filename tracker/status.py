"""The vocabulary: statuses, reasons and engagement of messages, and the legal transitions.

Database constraints, report, audit, metrics and docs derive their sets of statuses and reasons from
this module. It imports no other module of sendtrace.

The database stores the codes. A code never changes its meaning; new members get new codes.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, Self


class Channel(StrEnum):
    """The medium of a campaign."""

    EMAIL = "email"
    SMS = "sms"


class Step(StrEnum):
    """A step on a batch. All but `enqueue` are Celery tasks, named `workers.STEP`."""

    ENQUEUE = "enqueue"
    SUPPRESS = "suppress"
    VALIDATE = "validate"
    DISPATCH = "dispatch"
    SUBMIT = "submit"
    DELIVER = "deliver"
    ENGAGE = "engage"


class Code(IntEnum):
    """A term that the database stores as a number."""

    @property
    def slug(self) -> str:
        """The name in reports, JSON, metrics and the configuration of checks."""
        return self.name.lower()


class DescribedSlug(StrEnum):
    """A slug with a meaning."""

    meaning: str

    def __new__(cls, slug: str, meaning: str = "") -> Self:
        """Make a member; the second value is its meaning."""
        member = str.__new__(cls, slug)
        member._value_ = slug
        member.meaning = meaning
        return member


class Status(Code):
    """The status of a message. The codes follow the order of the lifecycle."""

    meaning: str

    def __new__(cls, code: int, meaning: str = "") -> Self:
        """Make a member; the second value is its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    QUEUED = 0, "Recorded; waiting for the checks."
    ABOUT_TO_BE_SENT = 1, "Passed every check; waiting for submission to the gateway."
    NOT_SENT = 2, "Stopped before the gateway, for exactly one reason."
    IN_GATEWAY = 3, "Accepted by the gateway; the outcome is not reported yet."
    SOFT_BOUNCED = 4, "Temporarily undeliverable; submitted again while attempts are left."
    NOT_DELIVERED = 5, "Given up by the gateway without a bounce."
    DELIVERED = 6, "Reached the recipient."
    HARD_BOUNCED = 7, "Returned as permanently undeliverable."


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
"""The statuses that may follow each status. None is the state before a message is recorded."""

LATE_TRANSITIONS = frozenset({(Status.DELIVERED, Status.HARD_BOUNCED)})
"""Legal transitions from a final status, which a late receipt may still cause."""


def _find_reachable_statuses(start: Status) -> frozenset[Status]:
    reachable = {start}
    frontier = [start]
    while frontier:
        for target in LEGAL_TRANSITIONS[frontier.pop()] - reachable:
            reachable.add(target)
            frontier.append(target)
    return frozenset(reachable)


SENT_STATUSES = _find_reachable_statuses(Status.IN_GATEWAY)
"""Statuses of messages that a gateway has accepted."""

IN_PROGRESS_STATUSES = frozenset(Status) - SENT_STATUSES - {Status.NOT_SENT}
"""Statuses of messages that are on their way to the gateway."""

FINAL_STATUSES = frozenset(
    status
    for status in Status
    if all((status, target) in LATE_TRANSITIONS for target in LEGAL_TRANSITIONS[status])
)
"""Statuses in which no step or receipt is awaited.

A soft bounce on the last attempt is final as well; see `is_settled`.
"""


def is_settled(status: Status, attempt: int, attempts: int) -> bool:
    """Return whether a message needs no more work, where its campaign allows `attempts`."""
    return status in FINAL_STATUSES or (status is Status.SOFT_BOUNCED and attempt >= attempts)


class ReceiptVerdict(StrEnum):
    """The reason why a receipt was refused."""

    DUPLICATE = "duplicate"
    STALE = "stale"
    UNKNOWN = "unknown"


class Engagement(Code):
    """A kind of action on a message.

    A machine open is by a mail filter or proxy, not by the recipient.
    """

    OPENED = 1
    CLICKED = 2
    SPAM = 3
    UNSUBSCRIBED = 4
    MACHINE_OPENED = 5


IMPLIED_ENGAGEMENTS: Mapping[Engagement, frozenset[Engagement]] = MappingProxyType(
    {
        Engagement.CLICKED: frozenset({Engagement.OPENED}),
        Engagement.UNSUBSCRIBED: frozenset({Engagement.CLICKED, Engagement.OPENED}),
    }
)
"""The actions that the recipient of an email must have taken before an action.

An action on an SMS implies nothing: an SMS reports no opens, and STOP is a reply.
"""

OPT_OUTS = frozenset({Engagement.SPAM, Engagement.UNSUBSCRIBED})
"""The actions after which a customer gets no more messages on the channel."""


class SuppressionReason(DescribedSlug):
    """A reason for which a recipient is on a suppression list."""

    UNSUBSCRIBED = "unsubscribed", "unsubscribed from marketing on the channel"
    SPAM = "spam", "marked a message as spam"
    NDNC = "ndnc", "on the National Do Not Call list; SMS only"
    HARD_BOUNCED = "hard_bounced", "hard bounces"
    SOFT_BOUNCED = "soft_bounced", "soft bounces since the last delivery"

    @property
    def is_bounce(self) -> bool:
        """True if the reason applies only from the organization's limit of bounces on."""
        return self in (SuppressionReason.HARD_BOUNCED, SuppressionReason.SOFT_BOUNCED)


class Category(DescribedSlug):
    """A group of reasons, with its heading in the report."""

    INTERNALLY_SUPPRESSED = "internally_suppressed", "Internally Suppressed List"
    INCOMPLETE_OR_INVALID = "incomplete_or_invalid", "Incomplete/Invalid Information"
    SYSTEM_ERROR = "system_error", "System Error"

    @property
    def heading(self) -> str:
        """The heading in the report."""
        return self.meaning


_SUPPRESSED, _INVALID, _ERROR = Category

_TITLES = {
    "ndnc": "National Do Not Call list",
    "mobile_missing_or_invalid": "Mobile missing or invalid",
    "email_missing": "Email address missing",
}


class Reason(Code):
    """A reason for Not Sent. Within a step, this order is the order of the checks.

    The step is None where any step before the gateway may give the reason.
    """

    category: Category
    step: Step | None
    meaning: str

    def __new__(cls, code: int, *values: Any) -> Self:
        """Make a member; the other values are its category, step and meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.category, member.step, member.meaning = values
        return member

    ORGANIZATION_DISABLED = 1, _SUPPRESSED, Step.SUPPRESS, "The organization is disabled."
    CONFIGURATION = (
        2,
        _SUPPRESSED,
        Step.SUPPRESS,
        "The configuration of the organization or the campaign doesn't allow the channel.",
    )
    UNSUBSCRIBED = (
        3,
        _SUPPRESSED,
        Step.SUPPRESS,
        "The customer unsubscribed from marketing on this channel.",
    )
    NDNC = 4, _SUPPRESSED, Step.SUPPRESS, "The customer is on the National Do Not Call list."
    BOUNCED_REPEATEDLY = (
        5,
        _SUPPRESSED,
        Step.SUPPRESS,
        "Earlier messages to this address bounced too often.",
    )
    MESSAGE_LIMIT = (
        6,
        _SUPPRESSED,
        Step.SUPPRESS,
        "The customer has received as many messages in the period as the organization allows.",
    )
    OUT_OF_CREDIT = 7, _SUPPRESSED, Step.DISPATCH, "The organization has no credit left."
    EMAIL_MISSING = 8, _INVALID, Step.VALIDATE, "The customer has no email address."
    MOBILE_MISSING_OR_INVALID = (
        9,
        _INVALID,
        Step.VALIDATE,
        "The customer has no mobile number, or none that can receive SMS.",
    )
    NOT_IN_LOYALTY_PROGRAM = (
        10,
        _INVALID,
        Step.VALIDATE,
        "The campaign is for members of the loyalty program only.",
    )
    COUPON_CONFIGURATION = (
        11,
        _INVALID,
        Step.VALIDATE,
        "The campaign's coupon series doesn't exist or isn't active.",
    )
    COUPON_ID_MISSING = 12, _INVALID, Step.VALIDATE, "The customer has no coupon of the series."
    COUPON_DATE_FORMAT = 13, _INVALID, Step.VALIDATE, "The coupon's expiry is not a date."
    COUPON_EXPIRED = 14, _INVALID, Step.VALIDATE, "The coupon has expired."
    COUPON_REDEEMED = 15, _INVALID, Step.VALIDATE, "The coupon was redeemed."
    DATA_MISSING = (
        16,
        _INVALID,
        Step.VALIDATE,
        "A tag, field, last shopped store or profile that the campaign requires is absent.",
    )
    GATEWAY_CONFIGURATION = (
        17,
        _INVALID,
        Step.VALIDATE,
        "No usable gateway is configured for the channel or the recipient.",
    )
    TIMEOUT = (
        18,
        _ERROR,
        Step.DISPATCH,
        "A step didn't finish in time with this message, after retries.",
    )
    HANDLER_NOT_FOUND = (
        19,
        _ERROR,
        Step.DISPATCH,
        "No handler is installed for the campaign's kind of message.",
    )
    COUPON_ISSUE = 20, _ERROR, Step.VALIDATE, "The coupon service failed, after retries."
    REFERRAL_SERVICE = 21, _ERROR, Step.VALIDATE, "The referral service failed, after retries."
    SUBSCRIPTION_SERVICE = (
        22,
        _ERROR,
        Step.SUPPRESS,
        "The subscription service failed, after retries.",
    )
    RULE_FAILED = (
        23,
        _ERROR,
        None,
        "A check or its source raised an error, or the check took too long or returned no verdict.",
    )
    STEP_FAILED = (
        24,
        _ERROR,
        None,
        "A step raised an error, or its process died, on every try with this message.",
    )
    CUSTOM_RULE = 25, _SUPPRESSED, None, "A custom rule blocks the message."
    DUPLICATE_RECIPIENT = (
        26,
        _SUPPRESSED,
        Step.SUPPRESS,
        "An earlier customer of the audience has the same address; only that one may get the"
        " message.",
    )
    CANCELLED = (
        27,
        _SUPPRESSED,
        None,
        "The campaign was cancelled before the gateway had the message.",
    )

    @property
    def title(self) -> str:
        """The label in the report."""
        return _TITLES.get(self.slug, self.slug.replace("_", " ").capitalize())
