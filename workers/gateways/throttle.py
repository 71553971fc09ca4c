"""A gateway's rate, shared by all workers."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from math import ceil, floor
from pathlib import Path
from typing import Protocol

from redis import Redis

from tracker.clock import MICROSECONDS_PER_SECOND, to_timedelta
from tracker.record.catalog import Batch

REDIS_KEY = "sendtrace:rate:{name}:{part}"
"""Where the state of a throttle is in the broker; what is there is explained in throttle.lua."""

KEY_PARTS = ("state", "line", "grants", "again")

TURN_SHARE = 0.07
"""What a turn is good for, as a part of what a window takes: some fifteen turns a window, and a few
questions more that come too soon. A grant is one and a half of it at most, to catch up."""

EXCESS_SHARE = 0.06
"""By how much a window may exceed the rate, to make up for what came late. To a tenth, that leaves
a grant that is accepted late."""

WINDOW_SLACK = 0.02
"""By how much the window that is held is longer than a second: messages are accepted some
milliseconds after they were granted, and not always as many."""

INTERVAL_LEEWAY = 0.05
"""By how much turns are further apart where no window can exceed the rate, so that tasks come at
different times and yet not in vain: half a timer's precision, see ``worker_timer_precision``."""

MAX_CATCH_UP_WINDOWS = 0.5
"""Windows of unused time that are made up for, if somebody waited."""

TURN_GRACE = timedelta(milliseconds=250)
"""How long others leave to a late task what belongs to it: the timers of workers alone, see
``worker_timer_precision``, are late by up to 100 ms."""

MIN_RETRY_DELAY = timedelta(milliseconds=50)
"""The least time between two questions of a batch that got nothing."""

PROBE_INTERVAL = timedelta(milliseconds=200)
"""How often, if turns are rarer, one of those who wait looks for what the dead have left."""

MAX_DELAY = timedelta(minutes=1)
"""The longest time that a batch is told to wait: well within the broker's visibility timeout, after
which it would hand the waiting task to somebody else, too."""

STATE_TTL = timedelta(minutes=10)
"""How long a gateway is remembered after the last question."""

ROUNDING_TOLERANCE = 1e-9
"""What a product of floats may fall short of a whole number."""


@dataclass(frozen=True)
class Grant:
    """How many messages may be handed over now, and how long to wait before asking for more.

    ``delay`` is real time.
    """

    messages: int
    delay: timedelta = timedelta()


class Throttle(Protocol):
    """Shares out what a gateway takes."""

    def take(self, batch: Batch, wanted: int, /) -> Grant:
        """How many of the ``wanted`` messages of a batch its campaign's gateway takes now."""
        ...


class UnlimitedThrottle:
    """Lets everything pass."""

    def take(self, _batch: Batch, wanted: int) -> Grant:
        """All of it."""
        return Grant(wanted)


@dataclass(frozen=True)
class RateLimit:
    """A gateway's ``rate``, in messages per simulated second, in a run of ``speed`` simulated
    seconds a second: in real time, and in portions that workers can keep up with.

    The window, which is held to the rate, is a simulated second; in runs that are faster than life
    a real one, as no task can be sent for each simulated second of them.
    There a single simulated second may have more than the rate: a whole portion at once.
    """

    rate: int
    speed: float = 1.0

    @property
    def window_seconds(self) -> float:
        """The real seconds of a window."""
        return max(1.0, 1 / self.speed)

    @property
    def messages(self) -> float:
        """The messages that a window is good for."""
        return self.rate * self.speed * self.window_seconds

    @property
    def allowed_excess(self) -> float:
        """By how many messages a window may exceed its share: never by more than a tenth of it.

        From ten messages on that is one at least; fewer have to keep strictly to their share.
        """
        return max(EXCESS_SHARE * self.messages, min(self.messages / 10, 1.0))

    @property
    def window_limit(self) -> int:
        """The messages that a window may have at most."""
        return max(1, floor(self.messages + self.allowed_excess + ROUNDING_TOLERANCE))

    @property
    def window_microseconds(self) -> float:
        """Microseconds for which :attr:`window_limit` holds."""
        return self.window_seconds * (1 + WINDOW_SLACK) * MICROSECONDS_PER_SECOND

    @property
    def interval_microseconds(self) -> float:
        """Microseconds that the gateway takes for a message."""
        share = self.window_seconds * MICROSECONDS_PER_SECOND / self.messages
        if self.window_limit > self.messages:
            return share
        return max(share, self.window_microseconds * (1 + INTERVAL_LEEWAY) / self.window_limit)

    @property
    def messages_per_turn(self) -> int:
        """The messages that a turn is good for."""
        return max(1, ceil(TURN_SHARE * self.messages))

    @cached_property
    def script_arguments(self) -> tuple[float, ...]:
        """What throttle.lua wants to know of it, from ARGV[3] on."""
        return (
            self.interval_microseconds,
            self.messages_per_turn,
            self.window_microseconds,
            self.window_limit,
            self.window_seconds * MAX_CATCH_UP_WINDOWS * MICROSECONDS_PER_SECOND,
            *(
                each.total_seconds() * MICROSECONDS_PER_SECOND
                for each in (TURN_GRACE, MIN_RETRY_DELAY, PROBE_INTERVAL, MAX_DELAY)
            ),
            max(STATE_TTL.total_seconds(), 10 * self.window_seconds) * MICROSECONDS_PER_SECOND,
        )


class SharedThrottle:
    """Holds a gateway to its pace across all workers: its state is in the broker.

    A token bucket, written as the generic cell rate algorithm in its form of virtual scheduling
    (ITU-T I.371, annex A): one moment says up to when the gateway's time has been given away. That
    alone gives the rate in the long run (about 0.93 of it for less than ten messages a window), and
    lets late tasks catch up. The grants of the last window are kept besides: they bound every
    window, however much there is to catch up with.

    Who gets less than wanted has an appointment in a line. Appointments are as far apart as the
    gateway takes for what they are good for: about twenty tasks a second run, however many batches
    wait. They are no reservations: what those leave who do not come is free for whoever asks.

    Should the broker forget everything, all begin anew with a single portion: the second around
    that moment may have so many messages more, and no other.

    ``name`` is the gateway's among all that use the broker.
    """

    def __init__(self, client: Redis, name: str, rate_limit: RateLimit) -> None:
        self._keys = [REDIS_KEY.format(name=name, part=part) for part in KEY_PARTS]
        self._rate_limit = rate_limit
        # Loads itself again where the broker has forgotten it.
        self._script = client.register_script(
            Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
        )

    def take(self, batch: Batch, wanted: int) -> Grant:
        """What the gateway takes of a batch now. Raises :exc:`redis.exceptions.RedisError`."""
        if wanted <= 0:
            return Grant(0)
        who = f"{batch.campaign.id}:{batch.batch}"
        granted, wait = self._script(
            keys=self._keys, args=[who, wanted, *self._rate_limit.script_arguments]
        )
        return Grant(int(granted), to_timedelta(int(wait)))
