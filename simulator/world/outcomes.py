"""Draw the outcome and the latency of each attempt at the simulated gateway.

The functions depend on the seed and the gateway's behaviour only. The gateway in a worker and the
oracle in the driver call them independently and get the same results.
"""

from datetime import timedelta
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from simulator.draws import DrawPurpose, draw_uniforms, uniforms_to_normals
from simulator.world.behaviour import GatewayBehaviour, LatencyDistribution
from tracker.clock import to_microseconds
from tracker.status import Status

P99_Z_SCORE = NormalDist().inv_cdf(0.99)
"""Standard deviations between the median and the 99th percentile of a normal distribution."""

MAX_LATENCY_US = to_microseconds(timedelta(days=3_650))
"""Microseconds at which drawn latencies are cut off, so that instants fit into 64 bits."""

MAX_EXPONENT = 600.0
"""Largest exponent that is computed: the exponential of 710 is infinite as a double."""


def draw_outcomes(
    behaviour: GatewayBehaviour, seed: int, campaign: str, attempt: int, first: int, count: int
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Return the outcomes and latencies of an attempt for messages from `first` on.

    Returns:
        Two arrays of shape (count,): codes of `Status`, and microseconds.
    """
    uniforms = draw_uniforms(seed, campaign, DrawPurpose.OUTCOME, first, count, attempt)
    shares = np.cumsum([behaviour.hard_bounce, behaviour.soft_bounce, behaviour.not_delivered])
    codes = np.array(
        [Status.HARD_BOUNCED, Status.SOFT_BOUNCED, Status.NOT_DELIVERED, Status.DELIVERED], np.int8
    )
    statuses: NDArray[np.int8] = codes[np.searchsorted(shares, uniforms[:, 0], side="right")]
    return statuses, draw_latencies(behaviour.latency, uniforms[:, 1], uniforms[:, 2])


def draw_latencies(
    latency: LatencyDistribution,
    first_uniforms: NDArray[np.float64],
    second_uniforms: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return log-normal latencies in microseconds, from two independent uniforms each."""
    if not latency.median:
        return np.zeros(len(first_uniforms), np.int64)
    normals = uniforms_to_normals(first_uniforms, second_uniforms)
    latencies = np.rint(scale_to_latency(latency, normals))
    return np.asarray(np.minimum(latencies, MAX_LATENCY_US), np.int64)


def scale_to_latency(
    latency: LatencyDistribution, normals: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the latencies in microseconds that standard normal numbers stand for."""
    sigma = np.log(latency.p99 / latency.median) / P99_Z_SCORE
    median = to_microseconds(latency.median)
    return np.asarray(median * np.exp(np.minimum(sigma * normals, MAX_EXPONENT)))
