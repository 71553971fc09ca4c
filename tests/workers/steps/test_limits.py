"""Limits of time and memory; in a process of its own where they end it."""

import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tracker.status import Reason, Step
from workers.candidates import NO_RECENT_MESSAGES, Candidate, RecentMessages
from workers.checks.base import check
from workers.checks.judging import CheckFailure, judge_candidates
from workers.gateways.step_time import extend_step_time
from workers.rules.valid_candidate import make_valid_candidate
from workers.steps import limits
from workers.steps.limits import (
    MAX_STEP_SECONDS,
    MIN_STEP_SECONDS,
    StepTimeout,
    limit_step_time,
    worker_limits,
)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_STEP_SECONDS", 0.2)
    monkeypatch.setattr(limits, "MIN_STEP_SECONDS", 0.1)
    monkeypatch.setattr(limits, "KILL_GRACE_SECONDS", 600)  # would end the tests' own process


def test_a_long_step_is_stopped_by_an_error_that_no_handler_swallows() -> None:
    def wait_for_ever() -> None:
        while True:
            with suppress(Exception):  # as around a check, which may raise anything
                time.sleep(10)

    with pytest.raises(StepTimeout, match=r"not done within 0\.2 s"), limit_step_time(0):
        wait_for_ever()


def test_a_step_is_stopped_even_if_the_first_error_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python ignores what a callback of the garbage collector raises."""
    monkeypatch.setattr(limits, "REPEAT_SECONDS", 0.1)

    def lose_the_first_error() -> None:
        with suppress(StepTimeout):
            time.sleep(10)
        time.sleep(10)

    with pytest.raises(StepTimeout), limit_step_time(0):
        lose_the_first_error()


def test_a_segment_has_less_time_but_never_too_little() -> None:
    for halved, seconds in ((1, "0.1"), (5, "0.1")):
        with pytest.raises(StepTimeout, match=seconds), limit_step_time(halved):
            time.sleep(10)
    assert MAX_STEP_SECONDS > MIN_STEP_SECONDS > 1


def test_a_step_has_more_time_while_its_gateway_waits_for_a_reply() -> None:
    with limit_step_time(0):
        extend_step_time(600)
        time.sleep(0.5)


def test_a_step_in_time_leaves_no_timer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_STEP_SECONDS", 6_000)
    before = signal.getsignal(signal.SIGALRM)
    with limit_step_time(0):
        assert signal.getitimer(signal.ITIMER_REAL)[1] > 0
    assert signal.getitimer(signal.ITIMER_REAL)[1] == 0, "pytest's own timer rings once"
    assert signal.getsignal(signal.SIGALRM) is before


def run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=150, check=False
    )


def test_a_process_that_cannot_be_interrupted_is_ended_and_logs_its_stack() -> None:
    ended = run(
        "import re\n"
        "from workers.steps import limits\n"
        "limits.MAX_STEP_SECONDS = limits.MIN_STEP_SECONDS = 0.2\n"
        "limits.KILL_GRACE_SECONDS = 0.3\n"
        "def hopeless():\n"
        "    re.fullmatch('(a+)+b', 'a' * 60)\n"
        "with limits.limit_step_time(0):\n"
        "    hopeless()\n"
    )
    assert ended.returncode == 1
    assert "in hopeless" in ended.stderr


@pytest.mark.usefixtures("rule_limit")
def test_time_to_announce_a_check_does_not_count_as_its_rules_time() -> None:
    def announce_slowly(_name: str | None) -> None:
        time.sleep((limits.MAX_RULE_TICKS + 2) * limits.TICK_SECONDS)

    checks = [reads_recent, hangs_on_three]
    with limit_step_time(0):
        verdicts = judge_candidates(
            make_candidates()[2:4], checks, datetime.now(UTC), announce=announce_slowly
        )
    assert {number: failure.check_name for number, failure in verdicts.failures.items()} == {
        3: "hangs_on_three"
    }


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory can't be limited like this")
def test_a_process_that_exhausts_memory_gets_an_error() -> None:
    ended = run(
        "from workers.steps import limits\n"
        "limits.MAX_MEMORY_GROWTH_BYTES = 200 << 20\n"
        "limits.limit_memory()\n"
        "hoard = [bytearray(50 << 20)]\n"
        "try:\n"
        "    while True:\n"
        "        hoard.append(bytearray(50 << 20))\n"
        "except MemoryError:\n"
        "    print(len(hoard))\n"
    )
    assert ended.returncode == 0, ended.stderr
    assert 1 <= int(ended.stdout) <= 4


@pytest.mark.parametrize(
    ("text", "growth"),
    [
        pytest.param(f"{1 << 30}\n", 512 << 20, id="half of a container"),
        pytest.param("max\n", limits.MAX_MEMORY_GROWTH_BYTES, id="no limit"),
        pytest.param(f"{(1 << 63) - 4096}\n", limits.MAX_MEMORY_GROWTH_BYTES, id="no limit, v1"),
        pytest.param(None, limits.MAX_MEMORY_GROWTH_BYTES, id="no file"),
    ],
)
def test_the_limit_of_memory_is_below_that_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, growth: int
) -> None:
    file = tmp_path / "memory.max"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(limits, "CONTAINER_LIMIT_FILES", (tmp_path / "other", file))
    assert limits.max_memory_growth() == growth


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
def hangs_on_three(candidate: Candidate, now: datetime) -> bool:
    """Wait forever for number 3, whatever happens."""
    while candidate.number == 3:
        with suppress(Exception):
            time.sleep(10)
    return False


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=2)
def reads_recent(candidate: Candidate, now: datetime) -> bool:
    """Read the recent messages."""
    return candidate.recent > 0


@pytest.fixture
def rule_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_STEP_SECONDS", 600)
    monkeypatch.setattr(limits, "MIN_STEP_SECONDS", 600)
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.02)


def make_candidates(recent: RecentMessages = NO_RECENT_MESSAGES) -> list[Candidate]:
    template = make_valid_candidate()
    return [
        template._replace(
            customer=template.customer._replace(number=number), recent_messages=recent
        )
        for number in range(6)
    ]


@pytest.mark.usefixtures("rule_limit")
def test_a_rule_that_takes_too_long_fails_on_its_message_only() -> None:
    with limit_step_time(0):
        verdicts = judge_candidates(make_candidates(), [hangs_on_three], datetime.now(UTC))
    assert verdicts.failures == {
        3: CheckFailure("hangs_on_three", "RuleTimeout: not done within 0.08 s")
    }
    assert verdicts.times["hangs_on_three"].calls == 6


@pytest.mark.usefixtures("rule_limit")
def test_time_to_load_data_does_not_count_as_a_rules_time() -> None:
    ticks = limits.MAX_RULE_TICKS + 2

    def load_slowly() -> dict[int, int]:
        time.sleep(ticks * limits.TICK_SECONDS)
        return {2: 1}

    with limit_step_time(0):
        candidates = make_candidates(RecentMessages(load_slowly))
        verdicts = judge_candidates(candidates, [reads_recent], datetime.now(UTC))
    assert not verdicts.failures
    assert verdicts.by_check == {reads_recent: [2]}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory can't be limited like this")
def test_limits_of_a_worker_end_with_their_block() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with worker_limits():
        assert resource.getrlimit(resource.RLIMIT_AS) != before
    assert resource.getrlimit(resource.RLIMIT_AS) == before
