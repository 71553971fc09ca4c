"""The times of checks, and the number of their calls."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from tracker.record.catalog import Campaign
from tracker.status import Reason, Step
from workers.candidates import Candidate, Customer, RecentMessages
from workers.checks.base import check
from workers.checks.judging import judge_candidates
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


@pytest.mark.parametrize("count", [1, 2, 101])
def test_a_check_is_called_on_what_no_earlier_one_blocked(count: int) -> None:
    verdicts = judge_candidates(make_candidates(count), [block_odd, pass_all], NOW)
    assert verdicts.by_check.get(block_odd, []) == list(range(1, count, 2))
    calls = {name: spent.calls for name, spent in verdicts.times.items()}
    assert calls == {"block_odd": count, "pass_all": count - count // 2}


class ManualClock:
    """A clock that only moves when a test says so; the load of the machine can't move it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def pass_time(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """Return the clock that the times of checks are measured with."""
    clock = ManualClock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.seconds)
    return clock


def test_every_call_is_timed(clock: ManualClock) -> None:
    @check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
    def pauses_once(candidate: Candidate, now: datetime) -> bool:
        """Be slow for number 700."""
        clock.pass_time(0.05 if candidate.number == 700 else 0.0)
        return False

    verdicts = judge_candidates(make_candidates(1_000), [pauses_once], NOW)
    assert verdicts.times["pauses_once"] == pytest.approx((1_000, 0.05))


@pytest.mark.parametrize("loads", ["source", "recent"])
def test_a_load_for_the_whole_batch_counts_once_and_for_the_rule_that_waits(
    clock: ManualClock, loads: str
) -> None:
    def load_source(campaign: Campaign, customers: Sequence[Customer]) -> dict[int, int]:
        clock.pass_time(3.0)
        return {}

    def count_recent() -> dict[int, int]:
        clock.pass_time(3.0)
        return {}

    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1)
    def computes(candidate: Candidate, now: datetime) -> bool:
        """Compute for a while."""
        clock.pass_time(0.001)
        return False

    @check("custom_rule", step="suppress", order=2, source=load_source)
    def reads_source(candidate: Candidate, now: datetime, data: int | None) -> bool:
        """Read the data of a source."""
        return False

    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=2)
    def reads_recent(candidate: Candidate, now: datetime) -> bool:
        """Read the recent messages."""
        return candidate.recent > 0

    waiting = reads_source if loads == "source" else reads_recent
    recent = RecentMessages(count_recent)
    candidates = [made._replace(recent_messages=recent) for made in make_candidates(200)]
    times = judge_candidates(candidates, [computes, waiting], NOW).times
    assert times["computes"] == pytest.approx((200, 0.2))
    assert times[waiting.name] == pytest.approx((200, 3.0))


def test_a_source_that_a_later_candidate_needs_first_is_counted(clock: ManualClock) -> None:
    @check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
    def block_the_first(candidate: Candidate, now: datetime) -> bool:
        """Block the first numbers."""
        return candidate.number < 10

    def load(campaign: Campaign, customers: Sequence[Customer]) -> dict[int, int]:
        clock.pass_time(3.0)
        return {}

    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=2, source=load)
    def reads_source(candidate: Candidate, now: datetime, data: int | None) -> bool:
        """Read the data of a source."""
        return False

    verdicts = judge_candidates(make_candidates(20), [block_the_first, reads_source], NOW)
    assert verdicts.times["reads_source"] == pytest.approx((10, 3.0))


def test_no_candidates_have_no_times() -> None:
    assert judge_candidates([], [pass_all], NOW).times == {}
