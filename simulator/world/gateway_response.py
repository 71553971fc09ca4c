"""Draw how the simulated gateway responds to messages on an attempt, faulty receipts included.

The functions depend on the seed and the gateway's behaviour only. The gateway in a worker and the
oracle in the driver call them independently and get the same results. Arrays have the shape
(count,): one element for each message from `first` on.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.draws import DrawPurpose, draw_uniforms
from simulator.forced import ForcedOutcome
from simulator.world.behaviour import GatewayBehaviour
from simulator.world.outcomes import draw_latencies, draw_outcomes
from tracker.status import Status

MAX_REJECTIONS = 100

DUPLICATE_COPY, STALE_COPY = 1, 2
"""Copy numbers of a duplicate and of a stale receipt. The receipt itself has copy number 0."""

_FORCED_STATUS_CODES = np.array(
    [0, *(outcome.status for outcome in sorted(ForcedOutcome))], np.int8
)
"""Codes of `Status` by the codes of `ForcedOutcome`, which count from 1."""


class GatewayResponses(NamedTuple):
    """The gateway's responses to messages on an attempt.

    Attributes:
        outcomes: codes of `Status`.
        latencies: microseconds from acceptance to the receipt.
        lost: whether the receipt never arrives.
        duplicate: whether the receipt arrives twice.
        stale: whether the receipt of the previous attempt arrives again.
        copy_delays: microseconds from the receipt to its duplicate or the stale one.
        late_bounce: whether a hard bounce follows the delivery.
        late_bounce_delays: microseconds from the delivery to the hard bounce.
    """

    outcomes: NDArray[np.int8]
    latencies: NDArray[np.int64]
    lost: NDArray[np.bool_]
    duplicate: NDArray[np.bool_]
    stale: NDArray[np.bool_]
    copy_delays: NDArray[np.int64]
    late_bounce: NDArray[np.bool_]
    late_bounce_delays: NDArray[np.int64]

    def select(self, positions: NDArray[np.int64]) -> "GatewayResponses":
        """Return the responses to the messages at some positions."""
        return GatewayResponses._make(column[positions] for column in self)


def draw_gateway_responses(
    behaviour: GatewayBehaviour,
    seed: int,
    campaign: str,
    attempt: int,
    first: int,
    forced: NDArray[np.int8],
) -> GatewayResponses:
    """Return the gateway's responses to messages from `first` on.

    `forced` holds the codes of `ForcedOutcome` that the recipients force; 0 for no outcome.
    """
    count = len(forced)
    drawn, latencies = draw_outcomes(behaviour, seed, campaign, attempt, first, count)
    is_forced = forced > 0
    outcomes = np.where(is_forced, _FORCED_STATUS_CODES[forced], drawn)
    lost = forced == ForcedOutcome.LOST
    rates = behaviour.receipts
    if not rates.has_faults:
        never, no_delays = np.zeros(count, np.bool_), np.zeros(count, np.int64)
        return GatewayResponses(
            outcomes, latencies, lost, never, never, no_delays, never, no_delays
        )
    faults = draw_uniforms(seed, campaign, DrawPurpose.RECEIPT_FAULT, first, count, attempt)
    delays = draw_uniforms(seed, campaign, DrawPurpose.COPY_DELAY, first, count, attempt)
    bounces = draw_uniforms(seed, campaign, DrawPurpose.LATE_BOUNCE, first, count)
    lost = lost | ((faults[:, 0] < rates.lost) & ~is_forced)
    late_bounce = draw_late_bounces(behaviour, seed, campaign, first, count)
    return GatewayResponses(
        outcomes=outcomes,
        latencies=latencies,
        lost=lost,
        duplicate=(faults[:, 1] < rates.duplicate) & ~lost,
        stale=(faults[:, 2] < rates.stale) & np.bool_(attempt > 1),
        copy_delays=draw_latencies(behaviour.latency, delays[:, 0], delays[:, 1]),
        late_bounce=late_bounce & (outcomes == Status.DELIVERED) & ~lost & ~is_forced,
        late_bounce_delays=draw_latencies(behaviour.latency, bounces[:, 1], bounces[:, 2]) + 1,
    )


def draw_late_bounces(
    behaviour: GatewayBehaviour, seed: int, campaign: str, first: int, count: int
) -> NDArray[np.bool_]:
    """Return which messages bounce after delivery, unless their recipients force an outcome."""
    uniforms = draw_uniforms(seed, campaign, DrawPurpose.LATE_BOUNCE, first, count)
    return np.asarray(uniforms[:, 0] < behaviour.receipts.late_bounce)


def draw_rejection_counts(
    behaviour: GatewayBehaviour, seed: int, campaign: str, attempt: int, first: int, count: int
) -> NDArray[np.int64]:
    """Return how often the gateway rejects each message before it accepts the attempt."""
    if not behaviour.reject_rate:
        return np.zeros(count, np.int64)
    uniforms = draw_uniforms(seed, campaign, DrawPurpose.REJECTION, first, count, attempt)[:, 0]
    # The number of independent rejections in a row has a geometric distribution.
    rejections = np.floor(np.log1p(-uniforms) / np.log(behaviour.reject_rate))
    return np.asarray(np.minimum(rejections, MAX_REJECTIONS), np.int64)
