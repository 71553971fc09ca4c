"""Load shapes: when each message of a campaign is meant to arrive, whatever the system does.

An open model. A shape is a rate that changes over time, piece by piece; message ``n`` arrives when
as many as ``n`` have arrived before it, and nothing that happens in the run moves that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LoadPhase:
    """So many seconds in which the rate, in messages a second, goes evenly ``rate`` … ``end_rate``."""

    seconds: float
    rate: float
    end_rate: float

    @property
    def messages(self) -> float:
        """How many arrive meanwhile."""
        return self.seconds * (self.rate + self.end_rate) / 2


@dataclass(frozen=True)
class ArrivalShape:
    """Pieces in their order; the rate at the end of the last one holds on.

    Without pieces it is a blast: everything arrives at once. All times are seconds from the
    beginning of the campaign on.
    """

    phases: Sequence[LoadPhase] = ()

    @property
    def is_blast(self) -> bool:
        return not self.phases

    def arrivals(self, first: int, count: int) -> NDArray[np.float64]:
        """When the messages ``first`` … ``first + count - 1`` arrive: seconds, ascending."""
        if self.is_blast:
            return np.zeros(count)
        numbers = np.arange(first, first + count, dtype=np.float64)
        begins, arrived, rates, slopes = self._phase_table
        # Where two pieces meet, or nothing arrives for a while, the message is the later one's.
        piece = np.searchsorted(arrived, numbers, side="right") - 1
        more, rate, slope = numbers - arrived[piece], rates[piece], slopes[piece]
        # The root of rate·t + slope·t²/2 = more, in the form that loses no digits as slope gets
        # small and is still right at 0.
        root = np.sqrt(np.maximum(rate * rate + 2 * slope * more, 0.0))
        waited = np.divide(2 * more, rate + root, out=np.zeros(count), where=more > 0)
        return np.asarray(begins[piece] + waited)

    def arrived(self, seconds: float) -> int:
        """How many have arrived by then."""
        if seconds < 0:
            return 0
        if self.is_blast:
            return 2**62
        begins, arrived, rates, slopes = self._phase_table
        piece = int(np.searchsorted(begins, seconds, side="right")) - 1
        since = seconds - begins[piece]
        reached = arrived[piece] + rates[piece] * since + slopes[piece] * since * since / 2
        # Message n arrives when n have arrived before it: the first one at once, unless nothing
        # arrives just then, and it has to wait.
        [latest] = self.arrivals(int(reached), 1)
        return int(reached) + int(latest <= seconds)

    @cached_property
    def _phase_table(self) -> NDArray[np.float64]:
        """Rows: when each piece begins, how many had arrived by then, its rate, and by how much
        that changes a second. The last column is what comes after the pieces."""
        lengths = [piece.seconds for piece in self.phases]
        messages = [piece.messages for piece in self.phases]
        slopes = [(piece.end_rate - piece.rate) / piece.seconds for piece in self.phases]
        return np.array(
            [
                np.cumsum([0.0, *lengths]),
                np.cumsum([0.0, *messages]),
                [*(piece.rate for piece in self.phases), self.phases[-1].end_rate],
                [*slopes, 0.0],
            ]
        )


BLAST = ArrivalShape()


def constant(rate: float) -> ArrivalShape:
    """Always the same rate."""
    return ArrivalShape((LoadPhase(1.0, rate, rate),))


def ramp(start: float, end: float, over: float) -> ArrivalShape:
    """From one rate to another within so many seconds."""
    return ArrivalShape((LoadPhase(over, start, end),))


def steps(levels: Sequence[tuple[float, float]]) -> ArrivalShape:
    """Rates, each held for so many seconds; the last one holds on."""
    return ArrivalShape(tuple(LoadPhase(seconds, rate, rate) for rate, seconds in levels))


def spike(base: float, peak: float, at: float, seconds: float) -> ArrivalShape:
    """A rate, but for a peak that begins ``at`` and lasts so many seconds."""
    before = (LoadPhase(at, base, base),) if at else ()
    return ArrivalShape((*before, LoadPhase(seconds, peak, peak), LoadPhase(1.0, base, base)))
