"""The times of checks, estimated from some of the candidates."""

import time
from datetime import UTC, datetime

import pytest

from tracker.status import Reason, Step
from workers.candidates import Candidate
from workers.checks.base import check
from workers.checks.judging import TIMED_EVERY, judge_candidates
from workers.rules.valid_candidate import make_valid_candidate

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def make_candidates(count: int) -> list[Candidate]:
    template = make_valid_candidate()
    return [
        template._replace(customer=template.customer._replace(number=number))
        for number in range(count)
    ]


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
def block_odd(candidate: Candidate, now: datetime) -> bool:
    """Block odd numbers."""
    return candidate.number % 2 == 1


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=2)
def pass_all(candidate: Candidate, now: datetime) -> bool:
    """Block no number."""
    return False


@pytest.mark.parametrize("count", [1, 2, TIMED_EVERY, 2 * TIMED_EVERY + 1])
def test_timing_some_candidates_does_not_change_the_verdicts(count: int) -> None:
    verdicts = judge_candidates(make_candidates(count), [block_odd, pass_all], NOW)
    assert verdicts.by_check.get(block_odd, []) == list(range(1, count, 2))
    assert verdicts.times["block_odd"].calls == pytest.approx(count)


def test_the_estimate_is_no_longer_than_the_whole() -> None:
    @check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
    def pauses_once(candidate: Candidate, now: datetime) -> bool:
        """Be slow for the first number, which is timed."""
        if not candidate.number:
            time.sleep(0.05)
        return False

    started = time.perf_counter()
    verdicts = judge_candidates(make_candidates(TIMED_EVERY), [pauses_once], NOW)
    assert 0.05 <= verdicts.times["pauses_once"].seconds <= time.perf_counter() - started


def test_no_candidates_have_no_times() -> None:
    assert judge_candidates([], [pass_all], NOW).times == {}
