"""Draw what recipients do with delivered messages: open, click, unsubscribe, mark as spam.

The functions depend on the seed and the engagement rates only. The gateway in a worker and the
oracle in the driver call them independently and get the same results.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.draws import DrawPurpose, draw_uniforms, uniforms_to_normals
from simulator.forced import ForcedOutcome
from simulator.world.behaviour import EngagementRates, LatencyDistribution
from simulator.world.outcomes import MAX_LATENCY_US, scale_to_latency
from tracker.clock import to_microseconds
from tracker.status import IMPLIED_ENGAGEMENTS, Engagement

MAX_DELAY_SIGMAS = 3.0
"""Standard deviations that no delay exceeds, so that a run ends in reasonable time."""

FOLLOW_UP_WINDOW_US = to_microseconds(timedelta(minutes=1))
"""Microseconds within which a click follows its open, and an unsubscribe its click."""

MACHINE_OPEN_WINDOW_US = to_microseconds(timedelta(seconds=1))
"""Microseconds after delivery within which a machine opens an email."""

MAX_REPEATS = 3
"""Times that a recipient repeats an open or a click at most."""

_ENGAGEMENT_BY_OUTCOME = MappingProxyType(
    {
        ForcedOutcome.OPEN: Engagement.OPENED,
        ForcedOutcome.CLICK: Engagement.CLICKED,
        ForcedOutcome.SPAM: Engagement.SPAM,
        ForcedOutcome.UNSUBSCRIBE: Engagement.UNSUBSCRIBED,
    }
)


class EngagementEvents(NamedTuple):
    """Engagement events as arrays of one length, one element for each event.

    Attributes:
        positions: positions of the recipients, counted from the first one.
        kinds: codes of `Engagement`.
        delays_us: microseconds since delivery.
    """

    positions: NDArray[np.int64]
    kinds: NDArray[np.int8]
    delays_us: NDArray[np.int64]

    def select(self, mask: NDArray[np.bool_]) -> "EngagementEvents":
        """Return the events of the recipients that a mask selects."""
        selected = mask[self.positions]
        return EngagementEvents._make(column[selected] for column in self)


def concatenate_events(parts: Iterable[EngagementEvents]) -> EngagementEvents:
    """Return the events of all parts."""
    return EngagementEvents._make(map(np.concatenate, zip(*parts, strict=True)))


def build_immediate_events(
    engagement: Mapping[Engagement, NDArray[np.bool_]],
) -> EngagementEvents:
    """Return the events of recipients who do everything at the instant of delivery."""
    return concatenate_events(
        _build_events(mask, kind, np.zeros(len(mask))) for kind, mask in engagement.items()
    )


def draw_engagement(
    rates: EngagementRates, seed: int, campaign: str, first: int, count: int
) -> dict[Engagement, NDArray[np.bool_]]:
    """Return which recipients from `first` on do what, as arrays of shape (count,).

    One draw decides everything that implies each other: who unsubscribes has clicked, and who
    clicks has opened.
    """
    uniforms = draw_uniforms(seed, campaign, DrawPurpose.ENGAGEMENT, first, count)
    return {
        Engagement.OPENED: uniforms[:, 0] < rates.open,
        Engagement.CLICKED: uniforms[:, 0] < rates.click,
        Engagement.UNSUBSCRIBED: uniforms[:, 0] < rates.unsubscribe,
        Engagement.SPAM: uniforms[:, 1] < rates.spam,
        Engagement.MACHINE_OPENED: uniforms[:, 2] < rates.machine_open,
    }


def draw_engagement_events(
    rates: EngagementRates, seed: int, campaign: str, first: int, count: int
) -> EngagementEvents:
    """Return all events that recipients from `first` on will ever cause, in no order."""
    engagement = draw_engagement(rates, seed, campaign, first, count)
    delays = _draw_first_delays(rates, seed, campaign, first, count)
    parts = [_build_events(engagement[kind], kind, after) for kind, after in delays.items()]
    if rates.again:
        median = to_microseconds(rates.delay.median)
        for repeat in range(1, MAX_REPEATS + 1):
            uniforms = draw_uniforms(
                seed, campaign, DrawPurpose.ENGAGEMENT_REPEAT, first, count, attempt=repeat
            )
            for column, kind in enumerate((Engagement.OPENED, Engagement.CLICKED)):
                engagement[kind] = engagement[kind] & (uniforms[:, column] < rates.again)
                # Events are identified by their instants, so a repeat must not share one.
                delays[kind] = delays[kind] + 1 + median * uniforms[:, 2 + column]
                parts.append(_build_events(engagement[kind], kind, delays[kind]))
    return concatenate_events(parts)


def _draw_first_delays(
    rates: EngagementRates, seed: int, campaign: str, first: int, count: int
) -> dict[Engagement, NDArray[np.float64]]:
    """Return the microseconds from delivery to each recipient's first event of each kind."""
    uniforms = draw_uniforms(seed, campaign, DrawPurpose.ENGAGEMENT_DELAY, first, count)
    follow_up = draw_uniforms(seed, campaign, DrawPurpose.ENGAGEMENT_FOLLOW_UP, first, count)
    window = min(FOLLOW_UP_WINDOW_US, to_microseconds(rates.delay.median))
    opened = _draw_delays(rates.delay, uniforms[:, 0], uniforms[:, 1])
    clicked = opened + window * follow_up[:, 0]
    return {
        Engagement.OPENED: opened,
        Engagement.CLICKED: clicked,
        Engagement.UNSUBSCRIBED: clicked + window * follow_up[:, 1],
        Engagement.SPAM: _draw_delays(rates.delay, uniforms[:, 2], uniforms[:, 3]),
        Engagement.MACHINE_OPENED: MACHINE_OPEN_WINDOW_US * follow_up[:, 2],
    }


def _draw_delays(
    delay: LatencyDistribution,
    first_uniforms: NDArray[np.float64],
    second_uniforms: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return log-normal delays in microseconds, from two independent uniforms each.

    The part of the normal distribution above `MAX_DELAY_SIGMAS` (0.13 %) is reflected there.
    """
    if not delay.median:
        return np.zeros(len(first_uniforms))
    normals = uniforms_to_normals(first_uniforms, second_uniforms)
    reflected = np.where(normals > MAX_DELAY_SIGMAS, 2 * MAX_DELAY_SIGMAS - normals, normals)
    return scale_to_latency(delay, reflected)


def _build_events(
    mask: NDArray[np.bool_], kind: Engagement, delays_us: NDArray[np.float64]
) -> EngagementEvents:
    positions = np.flatnonzero(mask)
    rounded = np.rint(np.minimum(delays_us[positions], MAX_LATENCY_US)).astype(np.int64)
    return EngagementEvents(positions, np.full(len(positions), kind, np.int8), rounded)


def derive_forced_engagement(forced: NDArray[np.int8]) -> dict[Engagement, NDArray[np.bool_]]:
    """Return which recipients engage how because their address forces it.

    Args:
        forced: codes of `ForcedOutcome`, one for each recipient; 0 for none.

    Returns:
        Arrays of the same length. Who clicks has opened, and who unsubscribes has clicked.
    """
    engagement = {kind: np.zeros(len(forced), np.bool_) for kind in Engagement}
    for outcome, kind in _ENGAGEMENT_BY_OUTCOME.items():
        for implied in {kind, *IMPLIED_ENGAGEMENTS.get(kind, ())}:
            engagement[implied] |= forced == outcome
    return engagement
