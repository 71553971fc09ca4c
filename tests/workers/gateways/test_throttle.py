"""A gateway's rate on a real Valkey: the script in virtual time, and processes in real time."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from heapq import heappop, heappush
from itertools import pairwise
from math import ceil
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from threading import Event
from typing import Any, cast

import pytest
from redis import Redis
from redis.exceptions import RedisError

from simulator.stack.local import start_local_broker
from tests.support.factory import SPRING, TIMEOUT_SECONDS
from tracker.clock import SystemClock, make_clock
from tracker.errors import UsageError
from tracker.record.catalog import Batch
from workers import runtime
from workers.gateways.throttle import (
    MAX_DELAY,
    REDIS_KEY,
    Grant,
    RateLimit,
    SharedThrottle,
    UnlimitedThrottle,
)
from workers.transient import TRANSIENT_ERRORS
from workers.upkeep.broker import make_broker_client

BATCH_SIZE = 10_000

MAX_LATENESS_SECONDS = 0.1
"""Longest delay of a task after its turn: the precision of a worker's timers."""

MAX_ACCEPTANCE_SECONDS = 0.02
"""Longest time from a grant to the acceptance of its messages."""

MAX_REQUESTS_PER_SECOND = 20
"""Most requests per second of all waiting batches together."""

MAX_SHARE = 1.1
"""Highest share of the rate in any window."""

MIN_SHARE = 0.9
"""Lowest share of the rate over a whole run."""

CLOCK = "clock"
READ_TIME = "redis.call('TIME')"
READ_VIRTUAL_TIME = f"redis.call('HMGET', '{CLOCK}', 'seconds', 'microseconds')"


def batch_of(number: int) -> Batch:
    return Batch(campaign=SPRING, batch=number, first=number * BATCH_SIZE, size=BATCH_SIZE)


class ClockedRedis(Redis):
    """A client whose scripts read the time from a key, so that a test sets it."""

    def register_script(self, script: Any) -> Any:
        """Register a script with another clock."""
        assert READ_TIME in script
        return super().register_script(script.replace(READ_TIME, READ_VIRTUAL_TIME))


@dataclass
class Broker:
    """A Valkey with a clock that the test sets."""

    client: ClockedRedis

    @property
    def now(self) -> float:
        """The time in seconds since 1970."""
        return self._now

    @now.setter
    def now(self, now: float) -> None:
        self._now = now
        seconds, microseconds = divmod(round(now * 1e6), 1_000_000)
        self.client.hset(CLOCK, mapping={"seconds": seconds, "microseconds": microseconds})

    def throttle(self, rate: int, speed: float = 1.0, name: str = "1") -> SharedThrottle:
        return SharedThrottle(self.client, name, RateLimit(rate=rate, speed=speed))

    def with_instants(self, rate: int, speed: float = 1.0) -> SharedThrottle:
        """Return the throttle of a gateway that keeps to the instants of its grants."""
        return SharedThrottle(self.client, "1", RateLimit(rate, speed, keeps_to_instants=True))

    def read_queue(self) -> set[Any]:
        """Return the batches that wait for their turn at the gateway named 1."""
        return {*self.client.zrange(REDIS_KEY.format(name="1", part="queue"), 0, -1)}

    def read_shares(self) -> set[Any]:
        """Return the batches of whose turn the gateway named 1 has the share."""
        return {*self.client.hkeys(REDIS_KEY.format(name="1", part="shares"))}

    def list_keys(self) -> set[bytes | str]:
        """Return the keys of the throttles."""
        return {*self.client.keys()} - {CLOCK.encode()}


@pytest.fixture(scope="module")
def valkey() -> Iterator[ClockedRedis]:
    with start_local_broker() as started:
        url = started.url.replace("redis+socket://", "unix://", 1)
        with closing(cast(ClockedRedis, ClockedRedis.from_url(url))) as client:
            yield client


@pytest.fixture
def broker(valkey: ClockedRedis) -> Broker:
    valkey.flushall()
    broker = Broker(valkey)
    broker.now = 1_800_000_000.0
    return broker


@dataclass
class Playback:
    """The record of requests in virtual time.

    Attributes:
        seconds: the length of the playback.
        accepted: (second, messages) of each acceptance.
        requests: the second of each request.
        messages: accepted messages by batch.
    """

    seconds: float
    accepted: list[tuple[float, int]] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    messages: dict[int, int] = field(default_factory=dict)

    def busiest(self, window: float = 1.0) -> int:
        """Return the most messages that were accepted in any window of this many seconds."""
        return count_busiest_window(self.accepted, window)

    def check(self, rate: float, window: float = 1.0) -> None:
        """Assert that a rate, in messages per second, was neither exceeded nor left unused."""
        assert self.busiest(window) <= MAX_SHARE * rate * window
        assert self.mean() >= MIN_SHARE * rate

    def mean(self, since: float = 0) -> float:
        """Return the accepted messages per second."""
        return sum(n for at, n in self.accepted if at >= since) / (self.seconds - since)

    def requests_per_second(self, since: float = 0) -> float:
        """Return the requests per second from a second of the playback on."""
        return sum(at >= since for at in self.requests) / (self.seconds - since)


def count_busiest_window(accepted: list[tuple[float, int]], window: float) -> int:
    """Return the most messages in any half-open window."""
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
    size: int | Sequence[int] = 10**9,
    arrivals: Sequence[float] | None = None,
    late: float = MAX_LATENESS_SECONDS,
    dies: Callable[[int, float], bool] | None = None,
    at: dict[float, Callable[[], object]] | None = None,
) -> Playback:
    """Let batches send requests in virtual time, each task a little late.

    Args:
        broker: the broker, whose clock is moved.
        throttle: the throttle to test.
        batches: the number of batches.
        seconds: when to stop.
        size: messages of a batch, one number for all or one for each.
        arrivals: the second of each batch's first request; None for all at the beginning.
        late: longest delay of a task after its turn, in seconds.
        dies: returns whether the task of a batch dies at a second.
        at: other events, by second.
    """
    rng = random.Random(1)  # noqa: S311  # not for cryptography
    started_at = broker.now
    playback = Playback(seconds)
    sizes = [size] * batches if isinstance(size, int) else size
    remaining = dict(enumerate(sizes))
    arrivals = arrivals or [0.0] * batches
    agenda = [(second + rng.uniform(0, late), number) for number, second in enumerate(arrivals)]
    events_due = sorted((at or {}).items(), reverse=True)
    agenda.sort()
    while agenda:
        now, number = heappop(agenda)
        if now > seconds:
            break
        while events_due and events_due[-1][0] <= now:
            events_due.pop()[1]()
        if dies and dies(number, now):
            continue
        broker.now = started_at + now
        batch = replace(batch_of(number), size=min(sizes[number], BATCH_SIZE))
        grant = throttle.acquire(batch, min(remaining[number], BATCH_SIZE))
        playback.requests.append(now)
        if grant.messages:
            if grant.starts_at is None:
                accepted_at = now + rng.uniform(0, MAX_ACCEPTANCE_SECONDS)
                playback.accepted.append((accepted_at, grant.messages))
            else:
                playback.accepted += list_instants(grant, started_at, now)
            playback.messages[number] = playback.messages.get(number, 0) + grant.messages
            remaining[number] -= grant.messages
        if remaining[number]:
            next_request = now + grant.delay.total_seconds() + rng.uniform(0.002, late)
            heappush(agenda, (next_request, number))
    assert broker.read_shares() == broker.read_queue()
    return playback


def list_instants(grant: Grant, started_at: float, now: float) -> list[tuple[float, int]]:
    """Return the instant of each message of a grant; none may be in the future."""
    assert grant.starts_at is not None
    begin = grant.starts_at / 1e6 - started_at
    instants = [begin + place * grant.interval / 1e6 for place in range(1, grant.messages + 1)]
    assert instants[-1] <= now + 1e-5
    return [(at, 1) for at in instants]


def check_instants(playback: Playback, rate: float, window: float = 1.0) -> None:
    """Assert that messages were accepted at least 1/rate apart, at 0.98 of the rate on average."""
    instants = sorted(at for at, _ in playback.accepted)
    assert min(after - at for at, after in pairwise(instants)) >= 1 / rate - 1e-5
    assert len(instants) >= 0.98 * rate * (instants[-1] - instants[0])
    assert instants[-1] >= playback.seconds - 2 * window


@pytest.mark.parametrize("batches", [1, 40])
@pytest.mark.parametrize(
    ("rate", "speed"), [(1, 1), (9, 1), (100, 1), (5_000, 1), (1, 1440), (100, 0.1)]
)
def test_messages_with_instants_are_accepted_one_interval_apart(
    broker: Broker, rate: int, speed: float, batches: int
) -> None:
    playback = play(broker, broker.with_instants(rate, speed), batches, 20)
    check_instants(playback, rate * speed, max(1, 1 / speed))
    assert playback.requests_per_second(since=2) <= 3.5


@pytest.mark.parametrize("late", [0.3, 2.0])
def test_late_tasks_lose_no_instants(broker: Broker, late: float) -> None:
    check_instants(play(broker, broker.with_instants(1_000), 20, 20, late=late), 1_000)


def test_campaigns_with_batches_of_very_different_sizes_share_a_rate(broker: Broker) -> None:
    """One campaign sends 120 batches of 10 messages a second, the other one of 1,000."""
    small, large, rate, seconds = 1_200, 10, 1_000, 10
    sizes = [10] * small + [1_000] * large
    arrivals = [number / 120 for number in range(small)] + [*range(large)]
    throttle = broker.with_instants(rate)
    playback = play(broker, throttle, len(sizes), seconds, size=sizes, arrivals=arrivals)
    check_instants(playback, rate)
    messages = [playback.messages.get(number, 0) for number in range(small + large)]
    assert min(sum(messages[:small]), sum(messages[small:])) >= 0.4 * rate * seconds


def test_the_instants_of_dead_tasks_are_used(broker: Broker) -> None:
    playback = play(
        broker,
        broker.with_instants(100),
        20,
        30,
        dies=lambda number, now: now > 5 and number % 2 == 0,
    )
    check_instants(playback, 100)


def test_a_broker_that_loses_its_memory_grants_no_instant_twice(broker: Broker) -> None:
    throttle = broker.with_instants(1_000)
    throttle.acquire(batch_of(1), BATCH_SIZE)
    broker.now += 1
    before = throttle.acquire(batch_of(1), BATCH_SIZE)
    assert before.messages >= 999
    granted_until = broker.now * 1e6
    broker.client.flushall()
    for _ in range(3):
        broker.now += 0.1
        after = throttle.acquire(batch_of(2), BATCH_SIZE)
        assert after.starts_at is not None
        assert after.messages == 0 or after.starts_at >= granted_until - 1


def test_a_message_is_accepted_after_it_was_ready(broker: Broker) -> None:
    throttle = broker.with_instants(1_000)
    throttle.acquire(batch_of(1), BATCH_SIZE)
    broker.now += 1
    ready_at = SPRING.clock.now() - 300_000
    grant = throttle.acquire(batch_of(1), BATCH_SIZE, ready_at)
    assert grant.starts_at is not None
    assert grant.messages >= 290
    assert 0.29 <= broker.now - grant.starts_at / 1e6 <= 0.4


def test_the_instants_of_a_grant_are_on_the_clock_of_the_run_and_not_in_the_future() -> None:
    now = SystemClock().now()
    clock = make_clock(1_000_000, 10.0, real_start=now - 5_000_000)
    assert Grant(2).instants(clock) is None
    past = Grant(2, starts_at=now - 3_000_000, interval=1_000_000)
    instants = past.instants(clock)
    assert instants is not None
    assert instants.tolist() == [31_000_000, 41_000_000]
    ahead = Grant(2, starts_at=now + 60_000_000, interval=1_000).instants(clock)
    assert ahead is not None
    assert ahead[1] - ahead[0] == 10_000
    assert ahead[1] <= clock.now()


@pytest.mark.parametrize("batches", [1, 20, 300])
@pytest.mark.parametrize("rate", [1, 2, 9, 10, 20, 100, 5_000, 50_000])
def test_every_second_and_the_whole_run_keep_to_the_rate(
    broker: Broker, rate: int, batches: int
) -> None:
    seconds = 60 if rate < 10 else 20
    playback = play(broker, broker.throttle(rate), batches, seconds)
    playback.check(rate)
    assert playback.requests_per_second(since=1) <= MAX_REQUESTS_PER_SECOND


@pytest.mark.parametrize(
    ("rate", "speed"), [(100, 0.1), (1, 5), (100, 20), (1, 1440)], ids=lambda value: f"{value:g}"
)
def test_the_rate_follows_the_speed_of_the_run(broker: Broker, rate: int, speed: float) -> None:
    playback = play(broker, broker.throttle(rate, speed), 20, max(20, 4 / speed))
    playback.check(rate * speed, max(1, 1 / speed))


def test_batches_get_equal_shares(broker: Broker) -> None:
    messages = play(broker, broker.throttle(100), 20, 60).messages
    assert len(messages) == 20
    assert max(messages.values()) <= 1.5 * min(messages.values())


def test_each_batch_gets_a_message_before_one_gets_two_turns(broker: Broker) -> None:
    messages = play(broker, broker.throttle(9), 300, 60).messages
    assert len(messages) == 300


@pytest.mark.parametrize("rate", [10, 100, 5_000])
def test_the_share_of_dead_tasks_is_used(broker: Broker, rate: int) -> None:
    playback = play(
        broker, broker.throttle(rate), 100, 30, dies=lambda number, now: now > 5 and number % 2 == 0
    )
    playback.check(rate)


def test_rare_turns_of_dead_tasks_are_found_by_probes(broker: Broker) -> None:
    playback = play(
        broker, broker.throttle(1), 100, 120, dies=lambda number, now: now > 5 and number % 2 == 0
    )
    assert playback.busiest() == 1
    assert playback.mean() >= 0.8


def test_small_batches_do_not_delay_each_other(broker: Broker) -> None:
    playback = play(broker, broker.throttle(100), 300, 3.3, size=1)
    assert sum(playback.messages.values()) == 300
    assert playback.busiest() <= MAX_SHARE * 100


@pytest.mark.parametrize(("rate", "late"), [(3, 0.2), (100, 0.3)])
def test_very_late_tasks_keep_the_rate(broker: Broker, rate: int, late: float) -> None:
    play(broker, broker.throttle(rate), 20, 60, late=late).check(rate)


@pytest.mark.parametrize("rate", [10, 100, 5_000])
def test_a_broker_that_loses_its_memory_grants_one_turn_too_many(broker: Broker, rate: int) -> None:
    playback = play(broker, broker.throttle(rate), 20, 10, at={4.1: broker.client.flushall})
    rate_limit = RateLimit(rate=rate)
    assert playback.busiest() <= rate_limit.window_limit + rate_limit.messages_per_turn
    assert playback.mean() >= MIN_SHARE * rate


def test_a_pause_saves_no_messages_up(broker: Broker) -> None:
    throttle = broker.throttle(100)
    play(broker, throttle, 1, 2, size=100)
    broker.now += 60
    assert play(broker, throttle, 20, 0.2).busiest() <= 0.4 * 100


def test_a_batch_that_comes_early_or_twice_keeps_its_turn(broker: Broker) -> None:
    throttle = broker.throttle(100)
    first, second = batch_of(1), batch_of(2)
    throttle.acquire(first, BATCH_SIZE)
    grant = throttle.acquire(second, BATCH_SIZE)
    assert grant.messages == 0
    broker.now += 0.01
    assert throttle.acquire(second, BATCH_SIZE) == Grant(
        0, grant.delay - timedelta(milliseconds=10)
    )
    assert throttle.acquire(second, BATCH_SIZE) == Grant(
        0, grant.delay - timedelta(milliseconds=10)
    )
    broker.now += grant.delay.total_seconds()
    assert throttle.acquire(second, BATCH_SIZE).messages
    assert throttle.acquire(second, BATCH_SIZE).messages == 0


def test_a_delay_is_shorter_than_the_visibility_timeout(broker: Broker) -> None:
    throttle = broker.throttle(1)
    delays = [throttle.acquire(batch_of(number), BATCH_SIZE).delay for number in range(400)]
    assert max(delays) == MAX_DELAY


def test_gateways_of_different_names_are_independent(broker: Broker) -> None:
    assert broker.throttle(1, name="1").acquire(batch_of(1), 1) == Grant(1)
    assert broker.throttle(1, name="2").acquire(batch_of(1), 1) == Grant(1)
    assert broker.throttle(1, name="2").acquire(batch_of(2), 1).messages == 0


def test_a_clock_that_is_set_back_does_not_stop_the_gateway(broker: Broker) -> None:
    throttle = broker.throttle(100)
    play(broker, throttle, 20, 2)
    broker.now -= 3600
    play(broker, throttle, 20, 10).check(100)


def test_a_flushed_script_is_loaded_again(broker: Broker) -> None:
    throttle = broker.throttle(1)
    throttle.acquire(batch_of(1), 1)
    broker.client.script_flush()
    assert throttle.acquire(batch_of(2), 1).messages == 0


def test_the_state_in_the_broker_expires(broker: Broker) -> None:
    throttle = broker.throttle(1)
    for number in range(3):
        throttle.acquire(batch_of(number), BATCH_SIZE)
    keys = broker.list_keys()
    assert keys
    assert all(0 < broker.client.ttl(key) <= 600 for key in keys)


def test_a_request_for_no_messages_does_not_ask_the_broker(broker: Broker) -> None:
    assert broker.throttle(1).acquire(batch_of(1), 0) == Grant(0)
    assert not broker.list_keys()


@pytest.fixture
def clean_process() -> Iterator[None]:
    """Drop what a worker process caches, before and after the test."""
    runtime.set_up_pool_process()
    yield
    runtime.set_up_pool_process()


def test_a_gateway_without_a_rate_needs_no_broker(clean_process: None) -> None:
    assert isinstance(runtime.resources().throttle_of(SPRING), UnlimitedThrottle)


def test_a_rate_needs_a_broker(clean_process: None) -> None:
    with pytest.raises(UsageError, match="SENDTRACE_BROKER_URL"):
        runtime.resources().throttle_of(replace(SPRING, gateway_rate=1))


def test_a_gateway_has_one_throttle_for_all_its_campaigns(
    clean_process: None, monkeypatch: pytest.MonkeyPatch, broker_url: str
) -> None:
    monkeypatch.setenv("SENDTRACE_BROKER_URL", broker_url)
    now = SystemClock().now()
    limited = replace(
        SPRING, gateway_kind="smtp", gateway_rate=1, started_at=now, really_started_at=now
    )
    other = replace(limited, id=2, name="summer")
    of_another_database = replace(limited, really_started_at=now + 1)
    grants = [
        runtime.resources()
        .throttle_of(campaign)
        .acquire(Batch(campaign=campaign, batch=0, first=0, size=BATCH_SIZE), 1)
        for campaign in (limited, other, of_another_database)
    ]
    assert [grant.messages for grant in grants] == [1, 0, 1]


def test_broker_errors_are_transient() -> None:
    assert issubclass(RedisError, TRANSIENT_ERRORS)


def wait_for_all(barrier: Barrier) -> None:
    """Wait until all processes have started."""
    barrier.wait(TIMEOUT_SECONDS)


def hammer(url: str, numbers: range, rate: int, seconds: float) -> tuple[float, float, list[int]]:
    """Send requests for some batches in real time; return begin, end and the messages granted."""
    answers: list[int] = []
    timer = Event()
    with closing(make_broker_client(url, timeout=5)) as client:
        throttle = SharedThrottle(client, "hammered", RateLimit(rate=rate))
        began = time.time()
        agenda = [(began, number) for number in numbers]
        deadline = began + seconds
        while agenda[0][0] < deadline:
            due, number = heappop(agenda)
            timer.wait(max(0, due - time.time()))
            grant = throttle.acquire(batch_of(number), BATCH_SIZE)
            answers.append(grant.messages)
            heappush(agenda, (time.time() + grant.delay.total_seconds(), number))
        return began, time.time(), answers


def test_processes_on_a_real_broker_keep_to_the_rate(broker_url: str) -> None:
    processes, batches, seconds = 4, 10, 3
    context = get_context("spawn")
    parts = [range(index * batches, (index + 1) * batches) for index in range(processes)]
    with ProcessPoolExecutor(
        processes, context, initializer=wait_for_all, initargs=(context.Barrier(processes),)
    ) as pool:
        for rate in (20, 2_000):
            with closing(make_broker_client(broker_url, timeout=5)) as client:
                for key in client.scan_iter("sendtrace:rate:hammered:*"):
                    client.delete(key)
            futures = [pool.submit(hammer, broker_url, part, rate, seconds) for part in parts]
            results = [future.result(TIMEOUT_SECONDS) for future in futures]
            # On a busy machine it takes longer, and answers arrive late.
            taken = ceil(max(end for _, end, _ in results) - min(began for began, _, _ in results))
            answers = [messages for _, _, granted in results for messages in granted]
            assert 0 < sum(answers) <= MAX_SHARE * rate * taken, rate
            assert len(answers) <= processes * batches + 2 * MAX_REQUESTS_PER_SECOND * taken, rate
