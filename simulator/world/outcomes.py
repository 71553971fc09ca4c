"""How the simulated gateway treats a message: outcome and latency of each attempt.

A pure function of the draws and of the gateway's behaviour, which both the gateway, in a worker,
and the oracle, in the driver, ask.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from simulator.draws import DrawPurpose, draw_uniforms, uniforms_to_normals
from tracker.clock import to_microseconds
from tracker.status import Engagement, Status

P99_Z_SCORE = NormalDist().inv_cdf(0.99)
"""How many standard deviations the 99th percentile lies above the median."""

MAX_LATENCY_US = to_microseconds(timedelta(days=3_650))
"""Microseconds after which a drawn latency is cut off, so that instants stay within 64 bits."""

MAX_EXPONENT = 600.0
"""Beyond some 709 the exponential of a double is infinite."""

MAX_DELAY_SIGMAS = 3.0
"""Standard deviations beyond which nobody's delay lies, so that a run comes to its end."""

FOLLOW_UP_WINDOW_US = to_microseconds(timedelta(minutes=1))
"""Microseconds within which a click follows its open, and an unsubscribe its click."""

MACHINE_OPEN_WINDOW_US = to_microseconds(timedelta(seconds=1))
"""Microseconds within which a machine opens what was delivered."""

MAX_REPEATS = 3
"""How often a recipient does the same again, at most."""


class ReceiptFaultRates(BaseModel):
    """How receipts go wrong: shares of attempts, and of what is delivered for ``late_bounce``."""

    model_config = ConfigDict(frozen=True)

    duplicate: float = 0.0
    stale: float = 0.0
    lost: float = 0.0
    late_bounce: float = 0.0


class GatewayBehaviour(BaseModel):
    """What a simulated gateway does with what it accepts, as shares of each attempt."""

    model_config = ConfigDict(frozen=True)

    median: timedelta = timedelta()
    p99: timedelta = timedelta()
    hard_bounce: float = 0.0
    soft_bounce: float = 0.0
    not_delivered: float = 0.0
    attempts: int = 1
    reject_rate: float = 0.0
    receipts: ReceiptFaultRates = ReceiptFaultRates()


def outcomes(
    behaviour: GatewayBehaviour, seed: int, campaign: str, attempt: int, first: int, count: int
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """What becomes of messages ``first`` … on an attempt, and after how many microseconds.

    Both arrays have the shape (count,); the first holds codes of :class:`Status`.
    """
    drawn = draw_uniforms(seed, campaign, DrawPurpose.OUTCOME, first, count, attempt)
    shares = np.cumsum([behaviour.hard_bounce, behaviour.soft_bounce, behaviour.not_delivered])
    codes = np.array(
        [Status.HARD_BOUNCED, Status.SOFT_BOUNCED, Status.NOT_DELIVERED, Status.DELIVERED], np.int8
    )
    statuses: NDArray[np.int8] = codes[np.searchsorted(shares, drawn[:, 0], side="right")]
    return statuses, latencies(behaviour, drawn[:, 1], drawn[:, 2])


def latencies(
    behaviour: GatewayBehaviour, one: NDArray[np.float64], two: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Log-normal latencies in microseconds, through the behaviour's median and p99."""
    median = to_microseconds(behaviour.median)
    if not median:
        return np.zeros(len(one), np.int64)
    sigma = np.log(behaviour.p99 / behaviour.median) / P99_Z_SCORE
    drawn = np.rint(
        median * np.exp(np.minimum(sigma * uniforms_to_normals(one, two), MAX_EXPONENT))
    )
    return np.asarray(np.minimum(drawn, MAX_LATENCY_US), np.int64)


class EngagementRates(BaseModel):
    """Shares of those whom a message reaches: who opens, clicks, marks as spam, unsubscribes.

    ``again`` is the share of those who open, or click, and then do it once more; of these the same
    share does it yet again. ``median`` and ``p99`` are the delay from delivery to the open, and to
    the mark as spam. A machine opens for a share of all, whatever the people do.
    """

    model_config = ConfigDict(frozen=True)

    open: float = 0.0
    click: float = 0.0
    spam: float = 0.0
    unsubscribe: float = 0.0
    machine_open: float = 0.0
    again: float = 0.0
    median: timedelta = timedelta()
    p99: timedelta = timedelta()

    @property
    def has_engagement(self) -> bool:
        """Whether anybody does anything at all."""
        return max(self.open, self.spam, self.machine_open) > 0


def engaged(
    inclination: EngagementRates, seed: int, campaign: str, first: int, count: int
) -> dict[Engagement, NDArray[np.bool_]]:
    """Who of the recipients ``first`` … does what with a message; arrays of the shape (count,).

    One draw decides on all that implies each other: who unsubscribes has clicked, who clicks has
    opened.
    """
    drawn = draw_uniforms(seed, campaign, DrawPurpose.ENGAGEMENT, first, count)
    return {
        Engagement.OPENED: drawn[:, 0] < inclination.open,
        Engagement.CLICKED: drawn[:, 0] < inclination.click,
        Engagement.UNSUBSCRIBED: drawn[:, 0] < inclination.unsubscribe,
        Engagement.SPAM: drawn[:, 1] < inclination.spam,
        Engagement.MACHINE_OPENED: drawn[:, 2] < inclination.machine_open,
    }


class EngagementEvents(NamedTuple):
    """What recipients do, as arrays of one length, one element an event.

    ``places`` count from the first of the recipients, ``kinds`` are codes of :class:`Engagement`,
    ``after`` is in microseconds since delivery.
    """

    places: NDArray[np.int64]
    kinds: NDArray[np.int8]
    after: NDArray[np.int64]

    def select(self, those: NDArray[np.bool_]) -> "EngagementEvents":
        """What ``those`` of the recipients do."""
        here = those[self.places]
        return EngagementEvents(self.places[here], self.kinds[here], self.after[here])


def concatenate_events(parts: Iterable[EngagementEvents]) -> EngagementEvents:
    """All that some recipients do."""
    return EngagementEvents(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def build_immediate_events(does: Mapping[Engagement, NDArray[np.bool_]]) -> EngagementEvents:
    """What recipients do as soon as a message is delivered."""
    return concatenate_events(
        _build_events(who, kind, np.zeros(len(who))) for kind, who in does.items()
    )


def draw_engagement_events(
    inclination: EngagementRates, seed: int, campaign: str, first: int, count: int
) -> EngagementEvents:
    """All that the recipients ``first`` … will ever do, in no order."""
    place = (first, count)
    does = engaged(inclination, seed, campaign, *place)
    delays = draw_uniforms(seed, campaign, DrawPurpose.ENGAGEMENT_DELAY, *place)
    sequel = draw_uniforms(seed, campaign, DrawPurpose.ENGAGEMENT_FOLLOW_UP, *place)
    median = to_microseconds(inclination.median)
    moment = min(FOLLOW_UP_WINDOW_US, median)
    opened = _draw_delays(inclination, delays[:, 0], delays[:, 1])
    clicked = opened + moment * sequel[:, 0]
    when = {
        Engagement.OPENED: opened,
        Engagement.CLICKED: clicked,
        Engagement.UNSUBSCRIBED: clicked + moment * sequel[:, 1],
        Engagement.SPAM: _draw_delays(inclination, delays[:, 2], delays[:, 3]),
        Engagement.MACHINE_OPENED: MACHINE_OPEN_WINDOW_US * sequel[:, 2],
    }
    parts = [_build_events(does[kind], kind, after) for kind, after in when.items()]
    for time in range(1, MAX_REPEATS + 1) if inclination.again else ():
        drawn = draw_uniforms(seed, campaign, DrawPurpose.ENGAGEMENT_REPEAT, *place, attempt=time)
        for column, kind in enumerate((Engagement.OPENED, Engagement.CLICKED)):
            does[kind] = does[kind] & (drawn[:, column] < inclination.again)
            # An event is told from others by its instant: the same moment again would be the same.
            when[kind] = when[kind] + 1 + median * drawn[:, 2 + column]
            parts.append(_build_events(does[kind], kind, when[kind]))
    return concatenate_events(parts)


def _build_events(
    does: NDArray[np.bool_], kind: Engagement, after: NDArray[np.float64]
) -> EngagementEvents:
    places = np.flatnonzero(does)
    instants = np.rint(np.minimum(after[places], MAX_LATENCY_US)).astype(np.int64)
    return EngagementEvents(places, np.full(len(places), kind, np.int8), instants)


def _draw_delays(
    inclination: EngagementRates, one: NDArray[np.float64], two: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log-normal delays in microseconds, through median and p99.

    What of the normal distribution lies above :data:`MAX_DELAY_SIGMAS` (0.13 %) is reflected there.
    """
    median = to_microseconds(inclination.median)
    if not median:
        return np.zeros(len(one))
    drawn = uniforms_to_normals(one, two)
    drawn = np.where(drawn > MAX_DELAY_SIGMAS, 2 * MAX_DELAY_SIGMAS - drawn, drawn)
    sigma = np.log(inclination.p99 / inclination.median) / P99_Z_SCORE
    return np.asarray(median * np.exp(np.minimum(sigma * drawn, MAX_EXPONENT)))
