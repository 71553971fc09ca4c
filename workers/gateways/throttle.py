"""Hold a gateway to its rate across all workers."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from math import ceil, floor
from pathlib import Path
from typing import Protocol

from redis import Redis

from tracker.clock import MICROSECONDS_PER_SECOND, to_microseconds, to_timedelta
from tracker.record.catalog import Batch

REDIS_KEY = "sendtrace:rate:{name}:{part}"
"""The broker keys that hold a throttle's state; throttle.lua describes their contents."""

KEY_PARTS = ("state", "queue", "grants", "rebooked")

TURN_SHARE = 0.07
"""Share of a window's messages that one turn may submit: about fifteen turns a window, plus a few
requests that come too early. A grant is at most one and a half turns, to catch up."""

EXCESS_SHARE = 0.06
"""Share by which a window may exceed the rate, to make up for late tasks. With the messages that
are accepted after their grant, a window stays within 1.1 times the rate."""

WINDOW_SLACK = 0.02
"""Share by which the enforced window is longer than a second. A gateway accepts messages some
milliseconds after they were granted, and not always the same number."""

INTERVAL_LEEWAY = 0.05
"""Share added to the interval between turns when no window may exceed the rate. It is half the
precision of a worker's timers (`worker_timer_precision`), so tasks rarely come too early."""

MAX_CATCH_UP_WINDOWS = 0.5
"""Windows of unused time that are made up for, if batches were waiting."""

TURN_GRACE = timedelta(milliseconds=250)
"""How long other batches leave a late task its share. Worker timers alone are up to 100 ms late
(`worker_timer_precision`)."""

MIN_RETRY_DELAY = timedelta(milliseconds=50)
"""Shortest time between two requests of a batch that got nothing."""

PROBE_INTERVAL = timedelta(milliseconds=200)
"""How often, if turns are rarer, one of the waiting batches requests the share of dead tasks."""

MAX_DELAY = timedelta(minutes=1)
"""Longest delay of a batch. It is well below the broker's visibility timeout, after which the
broker would deliver the waiting task a second time."""

STATE_TTL = timedelta(minutes=10)
"""How long the broker keeps a throttle's state after the last request."""

ROUNDING_TOLERANCE = 1e-9
"""Largest rounding error of a product of floats that is ignored when rounding down."""


@dataclass(frozen=True)
class Grant:
    """A permission to submit some messages now, and to ask again after `delay` of real time."""

    messages: int
    delay: timedelta = timedelta()


class Throttle(Protocol):
    """A limit of the rate at which batches submit messages to a gateway."""

    def acquire(self, batch: Batch, wanted: int, /) -> Grant:
        """Request permission to submit up to `wanted` messages of a batch."""
        ...


class UnlimitedThrottle:
    """A throttle that grants every request in full."""

    def acquire(self, _batch: Batch, wanted: int) -> Grant:
        """Return a grant of all wanted messages."""
        return Grant(wanted)


@dataclass(frozen=True)
class RateLimit:
    """A gateway's rate, converted into windows, turns and intervals of real time.

    The rate is enforced for each window. A window is one simulated second, but at least one real
    second: in a run that is faster than real time, workers can't run a task for each simulated
    second. There, a single simulated second may exceed the rate by one turn.

    Attributes:
        rate: messages per simulated second.
        speed: simulated seconds per real second.
    """

    rate: int
    speed: float = 1.0

    @property
    def window_seconds(self) -> float:
        """The length of a window in real seconds."""
        return max(1.0, 1 / self.speed)

    @property
    def messages_per_window(self) -> float:
        """The messages of a window at exactly the rate."""
        return self.rate * self.speed * self.window_seconds

    @property
    def allowed_excess(self) -> float:
        """The messages by which a window may exceed its share: at most a tenth of it.

        A share of ten messages or more may be exceeded by at least one. A smaller share may not be
        exceeded by a whole message.
        """
        share = self.messages_per_window
        return max(EXCESS_SHARE * share, min(share / 10, 1.0))

    @property
    def window_limit(self) -> int:
        """The most messages that a window may have."""
        return max(1, floor(self.messages_per_window + self.allowed_excess + ROUNDING_TOLERANCE))

    @property
    def window_microseconds(self) -> float:
        """The length of the window, in microseconds, in which `window_limit` is enforced."""
        return self.window_seconds * (1 + WINDOW_SLACK) * MICROSECONDS_PER_SECOND

    @property
    def interval_microseconds(self) -> float:
        """The time between two messages in microseconds."""
        interval = self.window_seconds * MICROSECONDS_PER_SECOND / self.messages_per_window
        if self.window_limit > self.messages_per_window:
            return interval
        return max(interval, self.window_microseconds * (1 + INTERVAL_LEEWAY) / self.window_limit)

    @property
    def messages_per_turn(self) -> int:
        """The messages that one turn may submit."""
        return max(1, ceil(TURN_SHARE * self.messages_per_window))

    @cached_property
    def script_arguments(self) -> tuple[float, ...]:
        """The arguments of throttle.lua from ARGV[3] on."""
        return (
            self.interval_microseconds,
            self.messages_per_turn,
            self.window_microseconds,
            self.window_limit,
            self.window_seconds * MAX_CATCH_UP_WINDOWS * MICROSECONDS_PER_SECOND,
            to_microseconds(TURN_GRACE),
            to_microseconds(MIN_RETRY_DELAY),
            to_microseconds(PROBE_INTERVAL),
            to_microseconds(MAX_DELAY),
            max(to_microseconds(STATE_TTL), 10 * self.window_seconds * MICROSECONDS_PER_SECOND),
        )


class SharedThrottle:
    """A throttle whose state is in the broker, so that it holds across all workers.

    It is a token bucket in the form of the generic cell rate algorithm, virtual scheduling
    (ITU-T I.371, annex A). Its state is one instant: the end of the time that has been granted.
    That alone keeps the average rate, and lets late tasks catch up. For less than ten messages a
    window the average is about 0.93 of the rate. The grants of the last window are kept as well;
    they bound every window, however much there is to catch up with.

    A batch that gets less than it wanted has a turn in a queue. The turns are as far apart as the
    gateway needs for the messages of one turn. So about twenty tasks a second run, however many
    batches wait. A turn is not a reservation: other batches get the share of a batch that doesn't
    come.

    If the broker loses its memory, all batches start again with one turn. The window around that
    instant may exceed the rate by one turn.
    """

    def __init__(self, client: Redis, name: str, rate_limit: RateLimit) -> None:
        """Create the throttle of a gateway; `name` is unique among all users of the broker."""
        self._keys = [REDIS_KEY.format(name=name, part=part) for part in KEY_PARTS]
        self._rate_limit = rate_limit
        # A registered script loads itself again if the broker has forgotten it.
        self._script = client.register_script(
            Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
        )

    def acquire(self, batch: Batch, wanted: int) -> Grant:
        """Request permission to submit messages; may raise `redis.exceptions.RedisError`."""
        if wanted <= 0:
            return Grant(0)
        requester = f"{batch.campaign.id}:{batch.batch}"
        granted, delay_microseconds = self._script(
            keys=self._keys, args=[requester, wanted, *self._rate_limit.script_arguments]
        )
        return Grant(int(granted), to_timedelta(int(delay_microseconds)))
