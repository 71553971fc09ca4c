"""How a simulated gateway treats messages on an attempt, and how its receipts go wrong.

Pure functions of the draws, which both the gateway, in a worker, and the oracle, in the driver,
ask. Arrays have the shape (count,), a place for each of the messages from ``first`` on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.draws import DrawPurpose, draw_uniforms
from simulator.world.forced import ForcedOutcome
from simulator.world.outcomes import GatewayBehaviour, ReceiptFaultRates, latencies, outcomes
from tracker.status import Status

MAX_REJECTIONS = 100
"""A message is refused no more often before it is accepted."""

DUPLICATE_COPY, STALE_COPY = 1, 2
"""What tells a copy of a receipt, and one of the attempt before, from the receipt itself."""

_FORCED_STATUS_CODES = np.zeros(max(ForcedOutcome) + 1, np.int8)
for _each in ForcedOutcome:
    _FORCED_STATUS_CODES[_each] = _each.status


@dataclass(frozen=True)
class GatewayResponses:
    """What becomes of messages on an attempt: codes of :class:`Status`, after microseconds.

    The receipt of a ``lost`` one never comes. That of a ``duplicate`` comes twice; after that of a
    ``stale`` one comes that of the attempt before once more, and after that of a ``late`` one a
    hard bounce; each some microseconds later.
    """

    outcomes: NDArray[np.int8]
    latencies: NDArray[np.int64]
    lost: NDArray[np.bool_]
    duplicate: NDArray[np.bool_]
    stale: NDArray[np.bool_]
    copy_delays: NDArray[np.int64]
    late: NDArray[np.bool_]
    late_delays: NDArray[np.int64]


def draw_gateway_responses(
    behaviour: GatewayBehaviour,
    seed: int,
    campaign: str,
    attempt: int,
    first: int,
    forced: NDArray[np.int8],
) -> GatewayResponses:
    """How messages are treated; ``forced`` holds codes of :class:`ForcedOutcome`, 0 for most."""
    count = len(forced)
    drawn, after = outcomes(behaviour, seed, campaign, attempt, first, count)
    bound = forced > 0
    ends = np.where(bound, _FORCED_STATUS_CODES[forced], drawn)
    shares = behaviour.receipts
    nobody = np.zeros(count, np.bool_)
    lost, duplicate, stale, late = nobody | (forced == ForcedOutcome.LOST), nobody, nobody, nobody
    copy_delays = late_delays = np.zeros(count, np.int64)
    if shares != ReceiptFaultRates():
        of_attempt = draw_uniforms(seed, campaign, DrawPurpose.RECEIPT_FAULT, first, count, attempt)
        delays = draw_uniforms(seed, campaign, DrawPurpose.COPY_DELAY, first, count, attempt)
        of_message = draw_uniforms(seed, campaign, DrawPurpose.LATE_BOUNCE, first, count)
        lost = lost | ((of_attempt[:, 0] < shares.lost) & ~bound)
        duplicate = (of_attempt[:, 1] < shares.duplicate) & ~lost
        stale = (of_attempt[:, 2] < shares.stale) & np.bool_(attempt > 1)
        copy_delays = latencies(behaviour, delays[:, 0], delays[:, 1])
        late = draw_late_bounces(behaviour, seed, campaign, first, count)
        late = late & (ends == Status.DELIVERED) & ~lost & ~bound
        late_delays = latencies(behaviour, of_message[:, 1], of_message[:, 2]) + 1
    return GatewayResponses(ends, after, lost, duplicate, stale, copy_delays, late, late_delays)


def draw_late_bounces(
    behaviour: GatewayBehaviour, seed: int, campaign: str, first: int, count: int
) -> NDArray[np.bool_]:
    """Which messages bounce after they were delivered, if nothing forces another outcome."""
    drawn = draw_uniforms(seed, campaign, DrawPurpose.LATE_BOUNCE, first, count)
    return np.asarray(drawn[:, 0] < behaviour.receipts.late_bounce)


def rejections(
    behaviour: GatewayBehaviour, seed: int, campaign: str, attempt: int, first: int, count: int
) -> NDArray[np.int64]:
    """How often the gateway refuses each message for now, before it accepts it on an attempt."""
    if not behaviour.reject_rate:
        return np.zeros(count, np.int64)
    drawn = draw_uniforms(seed, campaign, DrawPurpose.REJECTION, first, count, attempt)[:, 0]
    # Independent refusals, one after the other: their number is geometrically distributed.
    times = np.floor(np.log1p(-drawn) / np.log(behaviour.reject_rate))
    return np.asarray(np.minimum(times, MAX_REJECTIONS), np.int64)
