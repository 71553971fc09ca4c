"""Hold a gateway to its rate across all workers."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from math import ceil, floor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from redis import Redis

from tracker.clock import (
    MICROSECONDS_PER_SECOND,
    Clock,
    Instant,
    SystemClock,
    to_microseconds,
    to_timedelta,
)
from tracker.record.catalog import Batch

REDIS_KEY = "sendtrace:rate:{name}:{part}"
"""The broker keys that hold a throttle's state; throttle.lua describes their contents."""

KEY_PARTS = ("state", "queue", "grants", "rebooked", "shares")

TURN_SHARE = 0.07
"""Share of a window's messages that one turn may submit: about fifteen turns a window, plus a few
requests that come too early. A turn of a gateway that keeps to the instants of a grant has a whole
window's messages."""

MAX_GRANT_TURNS = 1.5
"""Most turns whose messages are granted together, so that the queue catches up."""

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

MAX_CATCH_UP_WINDOWS_WITH_INSTANTS = 5
"""Windows of unused time that are made up for at a gateway that keeps to the instants of a grant.
More wouldn't exceed the rate there; this only limits how long after its acceptance a message is
recorded."""

UNBOUNDED = 2**53
"""More messages than any window has; a float holds all whole numbers up to it."""

TURN_GRACE = timedelta(milliseconds=250)
"""How long other batches leave a late task its share. Worker timers alone are up to 100 ms late
(`worker_timer_precision`)."""

MIN_RETRY_DELAY = timedelta(milliseconds=50)
"""Shortest time between two requests of a batch that got nothing."""

PROBE_INTERVAL = timedelta(milliseconds=200)
"""How often, if turns are rarer, one of the waiting batches requests the share of dead tasks."""

PROBE_INTERVAL_WITH_INSTANTS = timedelta(seconds=1)
"""PROBE_INTERVAL of a gateway that keeps to the instants of a grant. It makes up for more unused
time, so requests may be rarer."""

MAX_DELAY = timedelta(minutes=1)
"""Longest delay of a batch. It is well below the broker's visibility timeout, after which the
broker would deliver the waiting task a second time."""

STATE_TTL = timedelta(minutes=10)
"""How long the broker keeps a throttle's state after the last request."""

ROUNDING_TOLERANCE = 1e-9
"""Largest rounding error of a product of floats that is ignored when rounding down."""


@dataclass(frozen=True)
class Grant:
    """A permission to submit some messages now, and to ask again after `delay` of real time.

    Attributes:
        starts_at: real instant at which the granted time begins, if the gateway accepts each
            message at its own instant. The granted time ends now at the latest.
        interval: real microseconds between two of these instants.
    """

    messages: int
    delay: timedelta = timedelta()
    starts_at: float | None = None
    interval: float = 0.0

    def instants(self, clock: Clock) -> NDArray[np.int64] | None:
        """Return the instant of each message on a run's clock; None if each is accepted now.

        No instant is in the future, even if the broker's clock is ahead of this computer's. Then
        instants of different computers may overlap by the difference of their clocks.
        """
        if self.starts_at is None:
            return None
        duration = self.messages * self.interval
        ends_at = min(self.starts_at + duration, SystemClock().now())
        begin, end = clock.at(int(ends_at - duration)), clock.at(int(ends_at))
        return np.linspace(begin, end, self.messages + 1)[1:].astype(np.int64)


class Throttle(Protocol):
    """A limit of the rate at which batches submit messages to a gateway."""

    @property
    def keeps_to_instants(self) -> bool:
        """True if its gateway accepts each message at an instant of the grant."""
        ...

    @property
    def max_grant(self) -> int:
        """The most messages that it grants together."""
        ...

    def acquire(self, batch: Batch, wanted: int, ready_at: Instant | None = None, /) -> Grant:
        """Request permission to submit up to `wanted` messages of a batch.

        The messages can't be accepted before `ready_at`, an instant of the run's clock.
        """
        ...


class UnlimitedThrottle:
    """A throttle that grants every request in full."""

    keeps_to_instants = False
    max_grant = UNBOUNDED

    def acquire(self, _batch: Batch, wanted: int, _ready_at: Instant | None = None) -> Grant:
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
        keeps_to_instants: whether the gateway accepts each message at an instant of the grant. Then
            no window can exceed the rate, so turns are longer and nothing else bounds a window.
    """

    rate: int
    speed: float = 1.0
    keeps_to_instants: bool = False

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
        if self.keeps_to_instants:
            return UNBOUNDED
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
        share = 1 if self.keeps_to_instants else TURN_SHARE
        return max(1, ceil(share * self.messages_per_window))

    @property
    def max_grant(self) -> int:
        """The most messages that are granted together."""
        return ceil(MAX_GRANT_TURNS * self.messages_per_turn)

    @cached_property
    def script_arguments(self) -> tuple[float, ...]:
        """The arguments of throttle.lua from ARGV[3] to ARGV[14]."""
        window = self.window_seconds * MICROSECONDS_PER_SECOND
        catch_up, probe_interval = MAX_CATCH_UP_WINDOWS, PROBE_INTERVAL
        head_start = self.messages_per_turn * self.interval_microseconds
        if self.keeps_to_instants:
            # What was granted before the broker lost its memory lies in the past.
            catch_up = MAX_CATCH_UP_WINDOWS_WITH_INSTANTS
            probe_interval = PROBE_INTERVAL_WITH_INSTANTS
            head_start = 0
        return (
            self.interval_microseconds,
            self.messages_per_turn,
            self.window_microseconds,
            self.window_limit,
            window * catch_up,
            to_microseconds(TURN_GRACE),
            to_microseconds(MIN_RETRY_DELAY),
            to_microseconds(probe_interval),
            to_microseconds(MAX_DELAY),
            max(to_microseconds(STATE_TTL), 10 * window),
            head_start,
            self.max_grant,
        )


class SharedThrottle:
    """A throttle whose state is in the broker, so that it holds across all workers.

    It is a token bucket in the form of the generic cell rate algorithm, virtual scheduling
    (ITU-T I.371, annex A). Its state is one instant: the end of the time that has been granted.
    That alone keeps the average rate, and lets late tasks catch up. For less than ten messages a
    window the average is about 0.93 of the rate. The grants of the last window are kept as well;
    they bound every window, however much there is to catch up with.

    A gateway that keeps to the instants of a grant accepts its messages one interval apart. Grants
    never overlap, so no window exceeds the rate, and a grant may be a second long. It covers time
    that has passed, so nothing is accepted in the future, and a task that dies while it waits takes
    no time with it.

    A batch that gets less than it wanted has a turn in a queue. The turns are as far apart as the
    gateway needs for the messages of one turn. So about twenty tasks a second run, or two if the
    gateway keeps to instants, however many batches wait. A turn is not a reservation: other
    batches get the share of a batch that doesn't come.

    If the broker loses its memory, one turn is granted at once. The window around that instant may
    exceed the rate by one turn. A gateway that keeps to instants gets no such turn.
    """

    def __init__(self, client: Redis, name: str, rate_limit: RateLimit) -> None:
        """Create the throttle of a gateway; `name` is unique among all users of the broker."""
        self._keys = [REDIS_KEY.format(name=name, part=part) for part in KEY_PARTS]
        self._rate_limit = rate_limit
        self.keeps_to_instants = rate_limit.keeps_to_instants
        self.max_grant = rate_limit.max_grant
        # A registered script loads itself again if the broker has forgotten it.
        self._script = client.register_script(
            Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
        )

    def acquire(self, batch: Batch, wanted: int, ready_at: Instant | None = None) -> Grant:
        """Request permission to submit messages; may raise `redis.exceptions.RedisError`."""
        if wanted <= 0:
            return Grant(0)
        limit, campaign = self._rate_limit, batch.campaign
        waited = float(UNBOUNDED)
        if limit.keeps_to_instants and ready_at is not None:
            waited = max(0.0, (campaign.clock.now() - ready_at) / campaign.speed)
        requester = f"{campaign.id}:{batch.batch}"
        granted, delay_microseconds, starts_at = self._script(
            keys=self._keys, args=[requester, wanted, *limit.script_arguments, waited]
        )
        delay = to_timedelta(int(delay_microseconds))
        if limit.keeps_to_instants:
            return Grant(int(granted), delay, float(starts_at), limit.interval_microseconds)
        return Grant(int(granted), delay)
