"""Let checks judge candidates, and measure how long their rules take."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from itertools import chain
from reprlib import repr as shorten
from types import FrameType
from typing import NamedTuple

from tracker.record.check_times import CheckTime
from tracker.status import Reason
from tracker.text import describe_error
from workers.candidates import Candidate, DataUnavailable, RecentMessages
from workers.checks.base import BoundCheck, Check, Defer, InvalidVerdict, Rule, validate_deferral
from workers.checks.sources import SourceData, SourceFailed

FAILED_CHECK_REASON = Reason.RULE_FAILED
"""The reason of a message whose check failed: without a verdict it must not be sent."""


AnnounceCheck = Callable[[str | None], None]
"""A function that notes the name of the check that runs from now on; None if none does."""


class CheckFailure(NamedTuple):
    """A check that failed on a message, and its error as text.

    Attributes:
        is_of_source: whether the check failed because its source did.
    """

    check_name: str
    error: str
    is_of_source: bool = False


class RuleTimeout(BaseException):
    """A rule took too long on one message.

    Derives from BaseException so that `except Exception` in a rule can't swallow it.
    """


class DeferredUntil(NamedTuple):
    """The check that deferred a message, and the time until which the message waits."""

    check_name: str
    until: datetime


class RunningRule(NamedTuple):
    """A rule, and the candidate that it judges."""

    rule: Rule
    candidate: Candidate

    def is_same(self, other: "RunningRule") -> bool:
        """Return whether it is the same call."""
        return self.rule is other.rule and self.candidate is other.candidate


@dataclass(frozen=True)
class Verdicts:
    """The verdicts of checks on candidates.

    Attributes:
        by_check: the numbers of blocked messages by the check that blocks them.
        details: what the blocking check says of a message, by its number.
        deferrals: the check that defers a message the longest, by the message's number.
        failures: the failed check by message number; `FAILED_CHECK_REASON` blocks such a message.
        errors: the first error of each check that failed, by its name.
        times: the time of each check that ran, by its name. Data that is loaded for the whole batch
            counts for the check that waited for it.
    """

    by_check: dict[Check, list[int]] = field(default_factory=dict)
    details: dict[int, str] = field(default_factory=dict)
    deferrals: dict[int, DeferredUntil] = field(default_factory=dict)
    failures: dict[int, CheckFailure] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    times: dict[str, CheckTime] = field(default_factory=dict)

    @property
    def blocked(self) -> dict[Reason, list[int]]:
        """The numbers of blocked messages by reason."""
        blocked: defaultdict[Reason, list[int]] = defaultdict(list)
        for check, numbers in self.by_check.items():
            blocked[check.reason] += numbers
        if self.failures:
            blocked[FAILED_CHECK_REASON] += self.failures
        return dict(blocked)

    @property
    def failure_counts(self) -> Counter[str]:
        """The number of messages on which each check failed, by its name."""
        return Counter(failure.check_name for failure in self.failures.values())


def judge_candidates(
    candidates: Sequence[Candidate],
    checks: Sequence[Check],
    now: datetime,
    *,
    is_last_try: bool = True,
    announce: AnnounceCheck | None = None,
) -> Verdicts:
    """Run checks in their order, each on the candidates that no earlier one blocked.

    A check that defers a message doesn't end this: a message that must not be sent needn't wait.
    A check that raises, that takes too long, or that returns anything else, blocks its message with
    `FAILED_CHECK_REASON` and affects no other message.

    Args:
        candidates: the messages of a batch.
        checks: checks of one step.
        now: the time at which the messages are judged.
        is_last_try: whether no retry follows. A check whose source is unavailable then fails.
        announce: receives the name of the check that runs; None to announce none.

    Raises:
        Exception: a rule's data couldn't be loaded, for example from an unavailable database.
    """
    bound_checks = [check.bind(candidates, is_last_try=is_last_try) for check in checks]
    if announce is not None:
        bound_checks = [announcing(bound, announce) for bound in bound_checks]
    return run_checks(candidates, bound_checks, now)


def run_checks(
    candidates: Sequence[Candidate], bound_checks: Sequence[BoundCheck], now: datetime
) -> Verdicts:
    """Run checks on some of the candidates that they are bound to, as `judge_candidates` does."""
    verdicts = Verdicts()
    remaining = candidates
    for bound in bound_checks:
        if not remaining:
            break
        failed_before = len(verdicts.failures)
        started = time.perf_counter()
        blocked = _run_rule(bound.rule, remaining, now, verdicts)
        seconds = time.perf_counter() - started
        verdicts.times[bound.check.name] = CheckTime(len(remaining), seconds)
        if blocked:
            verdicts.by_check[bound.check] = [candidate.number for candidate in blocked]
            verdicts.details.update(_describe_blocked(bound.check, blocked))
        if blocked or len(verdicts.failures) > failed_before:
            settled = {*verdicts.by_check.get(bound.check, ()), *verdicts.failures}
            remaining = [candidate for candidate in remaining if candidate.number not in settled]
            for number in settled:
                verdicts.deferrals.pop(number, None)
    return verdicts


def _run_rule(
    rule: Rule, candidates: Iterable[Candidate], now: datetime, verdicts: Verdicts
) -> list[Candidate]:
    """Return the candidates that a rule blocks; add its deferrals and failures to `verdicts`."""
    blocked: list[Candidate] = []
    for candidate in candidates:
        try:
            verdict = rule(candidate, now)
            if verdict is True:
                blocked.append(candidate)
            elif verdict is not False:
                until = validate_deferral(rule, verdict, now)
                earlier = verdicts.deferrals.get(candidate.number)
                if earlier is None or until > earlier.until:
                    verdicts.deferrals[candidate.number] = DeferredUntil(rule.__name__, until)
        except DataUnavailable as unavailable:
            raise (unavailable.__cause__ or unavailable) from None
        # A rule of another package may raise anything.
        except (Exception, SystemExit, RuleTimeout) as error:
            is_of_source = isinstance(error, SourceFailed)
            failure = CheckFailure(rule.__name__, describe_error(error), is_of_source)
            verdicts.failures[candidate.number] = failure
            verdicts.errors.setdefault(rule.__name__, error)
    return blocked


def announcing(bound: BoundCheck, announce: AnnounceCheck) -> BoundCheck:
    """Return a check that announces its name while its rule or its source runs, and then None."""

    @wraps(bound.rule)
    def call(candidate: Candidate, now: datetime) -> bool | Defer:
        _announce(announce, bound.check.name)
        try:
            verdict = bound.rule(candidate, now)
        except (Exception, SystemExit, RuleTimeout, DataUnavailable):
            _announce(announce, None)
            raise
        _announce(announce, None)
        return verdict

    return bound._replace(rule=call)


def _announce(announce: AnnounceCheck, name: str | None) -> None:
    try:
        announce(name)
    except Exception as error:
        raise DataUnavailable from error


_WAITING_CODES = (_announce.__code__, RecentMessages.count.__code__, SourceData.get.__code__)
"""Code that a rule's call waits for, but that isn't the rule's own."""


def find_running_rule(frame: FrameType | None) -> RunningRule | None:
    """Return the rule that runs in a frame of the main thread, and its candidate.

    While a rule waits for data that is loaded for the whole batch, or for the record of its
    announcement, it counts as not running.
    """
    inner = None
    while frame is not None and frame.f_code is not _run_rule.__code__:
        if frame.f_code in _WAITING_CODES:
            return None
        inner, frame = frame, frame.f_back
    if inner is None or frame is None:
        return None
    return RunningRule(frame.f_locals["rule"], frame.f_locals["candidate"])


def _describe_blocked(check: Check, blocked: Iterable[Candidate]) -> Iterator[tuple[int, str]]:
    """Yield what a check says of the candidates that it blocked, by their numbers."""
    if check.detail is None:
        return
    for candidate in blocked:
        try:
            text = check.detail(candidate)
            if not isinstance(text, str | None):
                raise InvalidVerdict(f"detail returned {shorten(text)}; expected a text or None")
        except (Exception, SystemExit) as error:  # as above; the verdict remains
            text = describe_error(error)
        if text:
            yield candidate.customer.number, text


def merge_verdicts(parts: Iterable[Verdicts]) -> Verdicts:
    """Return the verdicts of several groups of checks on several groups of candidates together.

    A check that blocks a message wins over one that defers it, and the longest deferral counts.
    """
    merged = Verdicts()
    for part in parts:
        for check, numbers in part.by_check.items():
            merged.by_check.setdefault(check, []).extend(numbers)
        merged.details.update(part.details)
        merged.failures.update(part.failures)
        for number, deferral in part.deferrals.items():
            other = merged.deferrals.setdefault(number, deferral)
            if deferral.until > other.until:
                merged.deferrals[number] = deferral
        for name, error in part.errors.items():
            merged.errors.setdefault(name, error)
        for name, check_time in part.times.items():
            merged.times[name] = merged.times.get(name, CheckTime(0, 0.0)) + check_time
    for number in chain.from_iterable(merged.blocked.values()):
        merged.deferrals.pop(number, None)
    return merged
