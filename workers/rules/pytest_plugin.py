"""A pytest plugin for rule developers: the fixtures `candidate` and `judge`.

pytest loads the plugin wherever sendtrace is installed. It imports sendtrace only when a test uses
one of the fixtures.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from tracker.status import Reason
    from workers.candidates import Candidate
    from workers.checks.base import Check

DEFAULT_NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
"""The time at which the fixture `judge` judges unless a test passes another one."""


@dataclass(frozen=True)
class CandidateVerdict:
    """The decision of the checks on a candidate. It is true if a check blocks it.

    Attributes:
        reason: the reason that the message gets; None if no check blocks it.
        check: the name of the check that blocks it.
        detail: what this check says of the candidate.
        until: the time until which the candidate is deferred; None if no check defers it.
        deferred_by: the name of the check that defers it.
    """

    reason: "Reason | None" = None
    check: str | None = None
    detail: str | None = None
    until: datetime | None = None
    deferred_by: str | None = None

    def __bool__(self) -> bool:
        """Return whether a check blocks the candidate."""
        return self.reason is not None


class Judge(Protocol):
    """A function that returns the verdict on a candidate; see the fixture `judge`."""

    def __call__(
        self,
        candidate: "Candidate",
        *extra: "Check",
        only: "Iterable[Check] | None" = None,
        now: datetime = DEFAULT_NOW,
    ) -> CandidateVerdict:
        """Judge a candidate with the installed checks and extra ones."""
        ...


@pytest.fixture
def candidate() -> "Callable[..., Candidate]":
    """Return a function that makes a candidate that no check blocks, except for its keywords.

    A keyword is a field of the customer, the subscription, the coupon, the campaign, the
    organization or the candidate: `candidate(email=None)`, `candidate(channel="sms", ndnc=True)`,
    `candidate(requires=("coupon",), expires="2020-01-31")`.

    `candidate(step="validate")` has exactly what this step has; a keyword that the step lacks
    raises `TypeError`. Without a step it has all, and a check sees what its own step has.

    A required tag or field is missing unless `custom` has it: `candidate(requires=("tag:city",),
    custom={"tag:city": "Ulm"})`. An unknown keyword raises `TypeError`.
    """
    from workers.rules.valid_candidate import make_valid_candidate

    return make_valid_candidate


@pytest.fixture
def judge() -> Judge:
    """Return a function that judges a candidate as the workers do.

    It runs the installed checks and the `extra` ones that a test passes, in their order. An extra
    check replaces an installed one of the same name. With `only`, no installed check runs. Each
    check sees what its step has. `now` is an aware time; the default is noon UTC on 15 June 2026.
    The verdict has `reason`, `check` and `detail`, and is true if a check blocks the candidate.
    `until` and `deferred_by` say how long a check defers it otherwise. The error of a check that
    fails is raised, where workers block the message.
    """
    from tracker.queries.next_step import CHECK_STEPS
    from workers.candidates import Candidate
    from workers.checks.base import Check, all_checks, sort_checks
    from workers.checks.judging import Verdicts, judge_candidates, merge_verdicts

    def judge_one(
        candidate: "Candidate",
        *extra: "Check",
        only: "Iterable[Check] | None" = None,
        now: datetime = DEFAULT_NOW,
    ) -> CandidateVerdict:
        installed = all_checks() if only is None else tuple(only)
        for added in (*installed, *extra):
            if not isinstance(added, Check):
                raise TypeError(f"got {added!r}; expected a function decorated with @check(…)")
        if not isinstance(candidate, Candidate):
            raise TypeError(f"got {candidate!r}; expected a candidate, such as candidate()")
        if now.tzinfo is None:
            raise TypeError(f"now={now!r}: missing time zone; expected one, such as tzinfo=UTC")
        checks = sort_checks({check.name: check for check in (*installed, *extra)}.values())
        parts: list[Verdicts] = []
        for step in CHECK_STEPS:
            step_checks = [check for check in checks if check.step is step]
            verdicts = judge_candidates([candidate.narrowed(step)], step_checks, now)
            for error in verdicts.errors.values():
                raise error
            for check in verdicts.by_check:
                detail = verdicts.details.get(candidate.number)
                return CandidateVerdict(check.reason, check.name, detail)
            parts.append(verdicts)
        deferral = merge_verdicts(parts).deferrals.get(candidate.number)
        if deferral is None:
            return CandidateVerdict()
        return CandidateVerdict(until=deferral.until, deferred_by=deferral.check_name)

    return judge_one
