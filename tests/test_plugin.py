"""The pytest plugin: what a test of somebody's rule gets from it."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tracker.status import Channel, Reason, Step
from workers.candidates import Candidate
from workers.checks.base import check
from workers.testing import Judge

Make = Callable[..., Candidate]


@check(Reason.CONFIGURATION, step=Step.VALIDATE, order=15)
def quiet_hours(candidate: Candidate, now: datetime) -> bool:
    """Nobody is written to at night."""
    return now.hour < 6


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
def fragile(candidate: Candidate, now: datetime) -> bool:
    """Breaks."""
    raise LookupError("no luck")


@pytest.mark.parametrize("channel", Channel)
def test_nothing_speaks_against_a_candidate(candidate: Make, judge: Judge, channel: str) -> None:
    requires = ("coupon", "referral", "membership", "last_store", "profile")
    assert judge(candidate(channel=channel, requires=requires)) is None


@pytest.mark.parametrize(
    ("different", "reason"),
    [
        ({"email": None}, Reason.EMAIL_MISSING),
        ({"unsubscribed": True}, Reason.UNSUBSCRIBED),
        ({"channel": "sms", "ndnc": True}, Reason.NDNC),
        ({"requires": ("coupon",), "expires": "2020-01-31"}, Reason.COUPON_EXPIRED),
        ({"enabled": False}, Reason.ORGANIZATION_DISABLED),
        ({"message_limit": 2, "recent": 2}, Reason.MESSAGE_LIMIT),
        ({"requires": ("tag:city",)}, Reason.DATA_MISSING),
        ({"requires": ("tag:city",), "custom": '{"tag:city": "Ulm"}'}, None),
    ],
)
def test_keywords_find_their_part(
    candidate: Make, judge: Judge, different: dict[str, object], reason: Reason | None
) -> None:
    assert judge(candidate(**different)) is reason


def test_a_rule_takes_its_place_among_the_others(candidate: Make, judge: Judge) -> None:
    night = datetime(2026, 6, 15, 3, tzinfo=UTC)
    assert judge(candidate(), quiet_hours, now=night) is Reason.CONFIGURATION
    assert judge(candidate(), quiet_hours) is None
    assert judge(candidate(email=None), quiet_hours, now=night) is Reason.EMAIL_MISSING
    assert judge(candidate(loyalty_member=False), quiet_hours, now=night) is Reason.CONFIGURATION


def test_a_rule_that_raises_fails_its_test(candidate: Make, judge: Judge) -> None:
    with pytest.raises(LookupError, match="no luck"):
        judge(candidate(), fragile)


def test_a_keyword_that_there_is_not(candidate: Make) -> None:
    with pytest.raises(TypeError, match="no 'emial'; did you mean email"):
        candidate(emial=None)
