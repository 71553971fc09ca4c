"""A pytest plugin for those who write rules: the fixtures ``candidate`` and ``judge``.

It is there wherever sendtrace is installed. Nothing is imported before a test asks for a fixture.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from tracker.status import Reason
    from workers.candidates import Candidate
    from workers.checks.base import Check

DEFAULT_NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
"""When judgement is passed, unless a test says when."""


class Judge(Protocol):
    """Gives a candidate's reason, or None, as the workers would; see :func:`judge`."""

    def __call__(
        self, candidate: "Candidate", *extra: "Check", now: datetime = DEFAULT_NOW
    ) -> "Reason | None": ...


@pytest.fixture
def candidate() -> "Callable[..., Candidate]":
    """Makes a candidate whom no check speaks against, but for what is said to be different.

    Keywords are fields of the customer, the subscription, the coupon, the campaign, the
    organization or the candidate: ``candidate(email=None)``, ``candidate(channel="sms",
    ndnc=True)``, ``candidate(requires=("coupon",), expires="2020-01-31")``. A tag or field that the
    campaign requires is not there by itself: ``candidate(requires=("tag:city",),
    custom={"tag:city": "Ulm"})``. A keyword that there is not is a :exc:`TypeError`.
    """
    from workers.rules.valid_candidate import make_valid_candidate

    return make_valid_candidate


@pytest.fixture
def judge() -> Judge:
    """Judges a candidate with the installed checks and ``extra`` ones, in the workers' order.

    An extra check takes the place of an installed one of its name. ``now`` is an aware time, noon
    unless a test says otherwise. Where the workers make a check that raises a system error, the
    error itself comes out: in a test that is what one wants to see.
    """
    from workers.candidates import Candidate
    from workers.checks.base import CHECK_STEPS, Check, all_checks, judge_candidates, sort_checks

    def judge_one(
        candidate: "Candidate", *extra: "Check", now: datetime = DEFAULT_NOW
    ) -> "Reason | None":
        for each in extra:
            if not isinstance(each, Check):
                raise TypeError(f"{each!r} is no check; decorate the function with @check(…)")
        if not isinstance(candidate, Candidate):
            raise TypeError(f"{candidate!r} is no candidate; ask for the fixture and call it")
        if now.tzinfo is None:
            raise TypeError(f"now={now!r} has no time zone; expected one, such as tzinfo=UTC")
        checks = sort_checks({check.name: check for check in (*all_checks(), *extra)}.values())
        for step in CHECK_STEPS:
            verdicts = judge_candidates(
                [candidate], [each for each in checks if each.step is step], now
            )
            for error in verdicts.errors.values():
                raise error
            for reason in verdicts.blocked:
                return reason
        return None

    return judge_one
