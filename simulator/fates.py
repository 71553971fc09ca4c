"""How the simulated gateway treats a message: outcome and latency of each attempt.

A pure function of the draws and of the gateway's behaviour, which both the gateway, in a worker,
and the oracle, in the driver, ask.
"""

from datetime import timedelta
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from simulator.draws import Purpose, normals, uniforms
from tracker.status import Engagement, Status

P99 = NormalDist().inv_cdf(0.99)
"""How many standard deviations the 99th percentile lies above the median."""

LONGEST = timedelta(days=3_650) / timedelta(microseconds=1)
"""Microseconds after which a drawn latency is cut off, so that instants stay within 64 bits."""

MOST_EXPONENT = 600.0
"""Beyond some 709 the exponential of a double is infinite."""


class Unreliability(BaseModel):
    """How receipts go wrong: shares of attempts, and of what is delivered for ``late_bounce``."""

    model_config = ConfigDict(frozen=True)

    duplicate: float = 0.0
    stale: float = 0.0
    lost: float = 0.0
    late_bounce: float = 0.0


class Behaviour(BaseModel):
    """What a simulated gateway does with what it accepts, as shares of each attempt."""

    model_config = ConfigDict(frozen=True)

    median: timedelta = timedelta()
    p99: timedelta = timedelta()
    hard_bounce: float = 0.0
    soft_bounce: float = 0.0
    not_delivered: float = 0.0
    attempts: int = 1
    reject_rate: float = 0.0
    receipts: Unreliability = Unreliability()


def outcomes(
    behaviour: Behaviour, seed: int, campaign: str, attempt: int, first: int, count: int
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """What becomes of messages ``first`` … on an attempt, and after how many microseconds.

    Both arrays have the shape (count,); the first holds codes of :class:`Status`.
    """
    drawn = uniforms(seed, campaign, Purpose.FATE, first, count, attempt)
    shares = np.cumsum([behaviour.hard_bounce, behaviour.soft_bounce, behaviour.not_delivered])
    codes = np.array(
        [Status.HARD_BOUNCED, Status.SOFT_BOUNCED, Status.NOT_DELIVERED, Status.DELIVERED], np.int8
    )
    statuses: NDArray[np.int8] = codes[np.searchsorted(shares, drawn[:, 0], side="right")]
    return statuses, latencies(behaviour, drawn[:, 1], drawn[:, 2])


def latencies(
    behaviour: Behaviour, one: NDArray[np.float64], two: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Log-normal latencies in microseconds, through the behaviour's median and p99."""
    median = behaviour.median / timedelta(microseconds=1)
    if not median:
        return np.zeros(len(one), np.int64)
    sigma = np.log(behaviour.p99 / behaviour.median) / P99
    drawn = np.rint(median * np.exp(np.minimum(sigma * normals(one, two), MOST_EXPONENT)))
    return np.asarray(np.minimum(drawn, LONGEST), np.int64)


class Inclination(BaseModel):
    """Shares of those whom a message reaches: who opens, clicks, marks as spam, unsubscribes."""

    model_config = ConfigDict(frozen=True)

    open: float = 0.0
    click: float = 0.0
    spam: float = 0.0
    unsubscribe: float = 0.0


def engaged(
    inclination: Inclination, seed: int, campaign: str, first: int, count: int
) -> dict[Engagement, NDArray[np.bool_]]:
    """Who of the recipients ``first`` … does what with a message; arrays of the shape (count,).

    One draw decides on all that implies each other: who unsubscribes has clicked, who clicks has
    opened.
    """
    drawn = uniforms(seed, campaign, Purpose.ENGAGEMENT, first, count)
    return {
        Engagement.OPENED: drawn[:, 0] < inclination.open,
        Engagement.CLICKED: drawn[:, 0] < inclination.click,
        Engagement.UNSUBSCRIBED: drawn[:, 0] < inclination.unsubscribe,
        Engagement.SPAM: drawn[:, 1] < inclination.spam,
    }
