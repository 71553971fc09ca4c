"""A gateway's rate: played in virtual time against the script itself, and for real on a Valkey."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from heapq import heappop, heappush
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from threading import Event
from types import SimpleNamespace

import pytest
from fakeredis import FakeRedis
from fakeredis.commands_mixins import server_mixin
from redis import Redis
from redis.exceptions import RedisError

from tests.support.factory import SPRING, TIMEOUT_SECONDS
from tracker.clock import SystemClock
from tracker.errors import UsageError
from tracker.record.catalog import Batch
from workers import runtime, tasks
from workers.gateways.throttle import MAX_DELAY, Grant, RateLimit, SharedThrottle, UnlimitedThrottle
from workers.upkeep.broker import make_broker_client

SIZE = 10_000
"""Messages of a batch."""

LATE = 0.1
"""Seconds by which a task comes late at most: the timers of a worker are as precise as that."""

HANDOVER = 0.02
"""Seconds from a grant to the acceptance at most."""

ASKS = 20
"""Questions a second that waiting batches may ask, all together."""

HIGHEST = 1.1
LOWEST = 0.9
"""What the busiest second, and a run that is limited by it, may have of a rate."""


def batch_of(number: int) -> Batch:
    return Batch(campaign=SPRING, batch=number, first=number * SIZE, size=SIZE)


@dataclass
class Broker:
    """A Redis whose clock is set by the test."""

    now: float = 1_800_000_000.0
    client: Redis = field(default_factory=FakeRedis)

    def throttle(self, rate: int, speed: float = 1.0, name: str = "1") -> SharedThrottle:
        return SharedThrottle(self.client, name, RateLimit(rate=rate, speed=speed))


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    made = Broker()
    monkeypatch.setattr(server_mixin, "time", SimpleNamespace(time=lambda: made.now))
    with closing(made.client):
        yield made


@dataclass
class Played:
    """What came of a play: moments in seconds since its beginning, and messages."""

    seconds: float
    accepted: list[tuple[float, int]] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    got: dict[int, int] = field(default_factory=dict)

    def busiest(self, window: float = 1.0) -> int:
        """The most messages that were accepted in any window of so many seconds."""
        return busiest(self.accepted, window)

    def check(self, rate: float, window: float = 1.0) -> None:
        """See that a rate, in messages a second, was neither broken nor left unused."""
        assert self.busiest(window) <= HIGHEST * rate * window
        assert self.mean() >= LOWEST * rate

    def mean(self, since: float = 0) -> float:
        """Messages accepted a second."""
        return sum(n for at, n in self.accepted if at >= since) / (self.seconds - since)

    def asks(self, since: float = 0) -> float:
        """Questions a second, once every batch has asked."""
        return sum(at >= since for at in self.asked) / (self.seconds - since)


def busiest(accepted: list[tuple[float, int]], window: float) -> int:
    """The most messages in any window, its end not included."""
    events = sorted(accepted)
    most = held = first = 0
    for at, messages in events:
        held += messages
        while events[first][0] <= at - window:
            held -= events[first][1]
            first += 1
        most = max(most, held)
    return most


def play(
    broker: Broker,
    throttle: SharedThrottle,
    batches: int,
    seconds: float,
    *,
    size: int = 10**9,
    late: float = LATE,
    dies: Callable[[int, float], bool] | None = None,
    at: dict[float, Callable[[], object]] | None = None,
) -> Played:
    """Let batches ask in virtual time, each task a little late, until the time is over.

    ``dies`` says of a batch, and a moment, whether its task is never seen again; ``at`` is what
    else happens.
    """
    chance = random.Random(1)  # noqa: S311  # nothing to keep secret
    began = broker.now
    played = Played(seconds)
    left = dict.fromkeys(range(batches), size)
    agenda = [(chance.uniform(0, late), number) for number in range(batches)]
    happenings = sorted((at or {}).items(), reverse=True)
    agenda.sort()
    while agenda:
        now, number = heappop(agenda)
        if now > seconds:
            break
        while happenings and happenings[-1][0] <= now:
            happenings.pop()[1]()
        if dies and dies(number, now):
            continue
        broker.now = began + now
        grant = throttle.take(batch_of(number), min(left[number], SIZE))
        played.asked.append(now)
        if grant.messages:
            played.accepted.append((now + chance.uniform(0, HANDOVER), grant.messages))
            played.got[number] = played.got.get(number, 0) + grant.messages
            left[number] -= grant.messages
        if left[number]:
            again = now + grant.delay.total_seconds() + chance.uniform(0.002, late)
            heappush(agenda, (again, number))
    return played


@pytest.mark.parametrize("batches", [1, 20, 300])
@pytest.mark.parametrize("rate", [1, 2, 9, 10, 20, 100, 5_000, 50_000])
def test_every_second_and_the_whole_run_keep_to_the_rate(
    broker: Broker, rate: int, batches: int
) -> None:
    seconds = 60 if rate < 10 else 20
    played = play(broker, broker.throttle(rate), batches, seconds)
    played.check(rate)
    assert played.asks(since=1) <= ASKS


@pytest.mark.parametrize(
    ("rate", "speed"), [(100, 0.1), (1, 5), (100, 20), (1, 1440)], ids=lambda value: f"{value:g}"
)
def test_time_may_run_faster_or_slower(broker: Broker, rate: int, speed: float) -> None:
    played = play(broker, broker.throttle(rate, speed), 20, max(20, 4 / speed))
    played.check(rate * speed, max(1, 1 / speed))


def test_each_gets_its_share(broker: Broker) -> None:
    got = play(broker, broker.throttle(100), 20, 60).got
    assert len(got) == 20
    assert max(got.values()) <= 1.5 * min(got.values())


def test_all_get_something_before_one_gets_more(broker: Broker) -> None:
    got = play(broker, broker.throttle(9), 300, 60).got
    assert len(got) == 300


@pytest.mark.parametrize("rate", [10, 100, 5_000])
def test_the_dead_in_the_line_leave_what_was_theirs(broker: Broker, rate: int) -> None:
    played = play(
        broker, broker.throttle(rate), 100, 30, dies=lambda number, now: now > 5 and number % 2 == 0
    )
    played.check(rate)


def test_rare_turns_of_the_dead_are_found_by_those_who_look(broker: Broker) -> None:
    played = play(
        broker, broker.throttle(1), 100, 120, dies=lambda number, now: now > 5 and number % 2 == 0
    )
    assert played.busiest() == 1
    assert played.mean() >= 0.8


def test_small_batches_do_not_hold_each_other_up(broker: Broker) -> None:
    played = play(broker, broker.throttle(100), 300, 3.3, size=1)
    assert sum(played.got.values()) == 300
    assert played.busiest() <= HIGHEST * 100


@pytest.mark.parametrize(("rate", "late"), [(3, 0.2), (100, 0.3)])
def test_tasks_that_are_very_late_do_not_lose_the_rate(
    broker: Broker, rate: int, late: float
) -> None:
    play(broker, broker.throttle(rate), 20, 60, late=late).check(rate)


@pytest.mark.parametrize("rate", [10, 100, 5_000])
def test_a_broker_that_forgets_everything_grants_one_portion_too_many(
    broker: Broker, rate: int
) -> None:
    played = play(broker, broker.throttle(rate), 20, 10, at={4.1: broker.client.flushall})
    assert (
        played.busiest()
        <= RateLimit(rate=rate).window_limit + RateLimit(rate=rate).messages_per_turn
    )
    assert played.mean() >= LOWEST * rate


def test_a_pause_saves_nothing_up(broker: Broker) -> None:
    throttle = broker.throttle(100)
    play(broker, throttle, 1, 2, size=100)
    broker.now += 60
    assert play(broker, throttle, 20, 0.2).busiest() <= 0.4 * 100


def test_who_comes_early_or_twice_keeps_their_place(broker: Broker) -> None:
    throttle = broker.throttle(100)
    first, second = batch_of(1), batch_of(2)
    throttle.take(first, SIZE)
    told = throttle.take(second, SIZE)
    assert told.messages == 0
    broker.now += 0.01
    assert throttle.take(second, SIZE) == Grant(0, told.delay - timedelta(milliseconds=10))
    assert throttle.take(second, SIZE) == Grant(0, told.delay - timedelta(milliseconds=10))
    broker.now += told.delay.total_seconds()
    assert throttle.take(second, SIZE).messages
    assert throttle.take(second, SIZE).messages == 0


def test_nobody_is_told_to_wait_longer_than_the_broker_has_patience(broker: Broker) -> None:
    throttle = broker.throttle(1)
    waits = [throttle.take(batch_of(number), SIZE).delay for number in range(400)]
    assert max(waits) == MAX_DELAY


def test_gateways_of_other_names_are_others(broker: Broker) -> None:
    assert broker.throttle(1, name="1").take(batch_of(1), 1) == Grant(1)
    assert broker.throttle(1, name="2").take(batch_of(1), 1) == Grant(1)
    assert broker.throttle(1, name="2").take(batch_of(2), 1).messages == 0


def test_a_clock_that_is_set_back_stops_nothing(broker: Broker) -> None:
    throttle = broker.throttle(100)
    play(broker, throttle, 20, 2)
    broker.now -= 3600
    play(broker, throttle, 20, 10).check(100)


def test_a_script_that_was_forgotten_is_loaded_again(broker: Broker) -> None:
    throttle = broker.throttle(1)
    throttle.take(batch_of(1), 1)
    broker.client.script_flush()
    assert throttle.take(batch_of(2), 1).messages == 0


def test_what_is_kept_in_the_broker_expires(broker: Broker) -> None:
    throttle = broker.throttle(1)
    for number in range(3):
        throttle.take(batch_of(number), SIZE)
    keys = broker.client.keys()
    assert keys
    assert all(0 < broker.client.ttl(key) <= 600 for key in keys)


def test_nothing_wanted_is_nothing_asked(broker: Broker) -> None:
    assert broker.throttle(1).take(batch_of(1), 0) == Grant(0)
    assert not broker.client.keys()


@pytest.fixture
def settled() -> Iterator[None]:
    """A worker process without anything of another test."""
    runtime.set_up_pool_process()
    yield
    runtime.set_up_pool_process()


def test_without_a_rate_no_broker_is_asked(settled: None) -> None:
    assert isinstance(runtime.throttle_of(SPRING), UnlimitedThrottle)


def test_a_rate_needs_a_broker(settled: None) -> None:
    with pytest.raises(UsageError, match="SENDTRACE_BROKER_URL"):
        runtime.throttle_of(replace(SPRING, gateway_rate=1))


def test_a_gateway_has_one_throttle_for_all_its_campaigns(
    settled: None, monkeypatch: pytest.MonkeyPatch, broker_url: str
) -> None:
    monkeypatch.setenv("SENDTRACE_BROKER_URL", broker_url)
    limited = replace(SPRING, gateway_rate=1, started_at=SystemClock().now())
    other = replace(limited, id=2, name="summer")
    of_another_database = replace(limited, started_at=limited.started_at + 1)
    took = [
        runtime.throttle_of(campaign).take(Batch(campaign=campaign, batch=0, first=0, size=SIZE), 1)
        for campaign in (limited, other, of_another_database)
    ]
    assert [grant.messages for grant in took] == [1, 0, 1]


def test_trouble_with_the_broker_passes() -> None:
    assert issubclass(RedisError, tasks.TRANSIENT_ERRORS)


def together(barrier: Barrier) -> None:
    """Begin when all have begun."""
    barrier.wait(TIMEOUT_SECONDS)


def hammer(url: str, numbers: range, rate: int, seconds: float) -> list[tuple[float, int]]:
    """Ask for some batches in real time: when, and how many messages were granted."""
    answers: list[tuple[float, int]] = []
    timer = Event()
    with closing(make_broker_client(url, timeout=5)) as client:
        throttle = SharedThrottle(client, "hammered", RateLimit(rate=rate))
        agenda = [(time.time(), number) for number in numbers]
        until = time.time() + seconds
        while agenda[0][0] < until:
            due, number = heappop(agenda)
            timer.wait(max(0, due - time.time()))
            grant = throttle.take(batch_of(number), SIZE)
            answers.append((time.time(), grant.messages))
            heappush(agenda, (time.time() + grant.delay.total_seconds(), number))
    return answers


@pytest.mark.parametrize("rate", [20, 2_000])
def test_processes_that_ask_a_real_broker_keep_to_the_rate(broker_url: str, rate: int) -> None:
    processes, batches, seconds = 4, 10, 3
    context = get_context("spawn")
    with closing(make_broker_client(broker_url, timeout=5)) as client:
        for key in client.scan_iter("sendtrace:rate:hammered:*"):
            client.delete(key)
    with ProcessPoolExecutor(
        processes, context, initializer=together, initargs=(context.Barrier(processes),)
    ) as pool:
        parts = [range(each * batches, (each + 1) * batches) for each in range(processes)]
        futures = [pool.submit(hammer, broker_url, part, rate, seconds) for part in parts]
        answers = [answer for each in futures for answer in each.result(TIMEOUT_SECONDS)]
    granted = sum(messages for _, messages in answers)
    assert busiest(answers, 1.0) <= HIGHEST * rate
    assert granted >= LOWEST * rate * seconds
    assert len(answers) <= processes * batches + 2 * ASKS * seconds
