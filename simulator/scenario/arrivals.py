"""Arrival times of messages: an open load model.

A shape is a rate that changes over time. Message number n arrives when n messages have arrived
before it. Nothing that happens in the run moves that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

UNLIMITED_ARRIVALS = 2**62
"""Number of messages that have arrived in a blast: more than any campaign has."""


@dataclass(frozen=True)
class LoadPhase:
    """A period in which the rate, in messages per second, changes evenly."""

    seconds: float
    start_rate: float
    end_rate: float

    @property
    def messages(self) -> float:
        """Messages that arrive in the phase."""
        return self.seconds * (self.start_rate + self.end_rate) / 2

    @property
    def slope(self) -> float:
        """Change of the rate per second."""
        return (self.end_rate - self.start_rate) / self.seconds


@dataclass(frozen=True)
class ArrivalShape:
    """Phases in their order. The rate at the end of the last phase stays.

    Without phases the shape is a blast: all messages arrive at once. All times are seconds since
    the start of the campaign.
    """

    phases: Sequence[LoadPhase] = ()

    @property
    def is_blast(self) -> bool:
        """True if all messages arrive at once."""
        return not self.phases

    def arrival_times(self, first: int, count: int) -> NDArray[np.float64]:
        """Return when the messages from number `first` on arrive: seconds, ascending."""
        if self.is_blast:
            return np.zeros(count)
        numbers = np.arange(first, first + count, dtype=np.float64)
        starts, arrived, rates, slopes = self._phase_table
        # A message between two phases, or before a pause, belongs to the later phase.
        phase = np.searchsorted(arrived, numbers, side="right") - 1
        remaining, rate, slope = numbers - arrived[phase], rates[phase], slopes[phase]
        # The root of rate·t + slope·t²/2 = remaining, in the form that loses no digits when the
        # slope is small and holds for a slope of 0.
        root = np.sqrt(np.maximum(rate * rate + 2 * slope * remaining, 0.0))
        elapsed = np.divide(2 * remaining, rate + root, out=np.zeros(count), where=remaining > 0)
        return np.asarray(starts[phase] + elapsed)

    def count_arrived(self, seconds: float) -> int:
        """Return how many messages have arrived by a time."""
        if seconds < 0:
            return 0
        if self.is_blast:
            return UNLIMITED_ARRIVALS
        starts, arrived, rates, slopes = self._phase_table
        phase = int(np.searchsorted(starts, seconds, side="right")) - 1
        elapsed = seconds - starts[phase]
        area = arrived[phase] + rates[phase] * elapsed + slopes[phase] * elapsed * elapsed / 2
        # Message n arrives when n have arrived before it, so the first one arrives at once, unless
        # a pause comes first.
        [latest] = self.arrival_times(int(area), 1)
        return int(area) + int(latest <= seconds)

    @cached_property
    def _phase_table(self) -> NDArray[np.float64]:
        """Start, earlier messages, rate and slope of each phase, as four rows.

        The last column stands for the time after the last phase.
        """
        return np.array(
            [
                np.cumsum([0.0, *(phase.seconds for phase in self.phases)]),
                np.cumsum([0.0, *(phase.messages for phase in self.phases)]),
                [*(phase.start_rate for phase in self.phases), self.phases[-1].end_rate],
                [*(phase.slope for phase in self.phases), 0.0],
            ]
        )


BLAST_SHAPE = ArrivalShape()


def constant_shape(rate: float) -> ArrivalShape:
    """Return a shape with a constant rate."""
    return ArrivalShape((LoadPhase(1.0, rate, rate),))


def ramp_shape(start: float, end: float, seconds: float) -> ArrivalShape:
    """Return a shape whose rate changes evenly from one value to another."""
    return ArrivalShape((LoadPhase(seconds, start, end),))


def steps_shape(steps: Sequence[tuple[float, float]]) -> ArrivalShape:
    """Return a shape of (rate, seconds) steps. The last rate stays."""
    return ArrivalShape(tuple(LoadPhase(seconds, rate, rate) for rate, seconds in steps))


def spike_shape(base: float, peak: float, at: float, seconds: float) -> ArrivalShape:
    """Return a shape with a constant rate and a peak that starts `at` and lasts some seconds."""
    before = (LoadPhase(at, base, base),) if at else ()
    return ArrivalShape((*before, LoadPhase(seconds, peak, peak), LoadPhase(1.0, base, base)))
