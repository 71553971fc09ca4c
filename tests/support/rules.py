"""Checks that tests add to the installed ones."""

from datetime import datetime, timedelta

from tracker.status import Reason, Step
from workers.candidates import Candidate
from workers.checks.base import Defer, check

THIS_MODULE = __name__

NOT_A_CHECK = "not a check"


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
def block_number_3(candidate: Candidate, now: datetime) -> bool:
    """Block message number 3."""
    return candidate.customer.number == 3


@check(Reason.NDNC, step=Step.SUPPRESS, order=1)
def fragile(candidate: Candidate, now: datetime) -> bool:
    """Fail on every message."""
    raise LookupError(candidate.customer.customer_id)


@check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1)
def deferring(candidate: Candidate, now: datetime) -> bool | Defer:
    """Defer every message by an hour."""
    return Defer(now + timedelta(hours=1))
