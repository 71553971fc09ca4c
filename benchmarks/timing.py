"""Timing of calls in this process."""

import time
from collections.abc import Callable


def time_call(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started_at = time.perf_counter()
    work()
    return time.perf_counter() - started_at


def time_in_turns(
    first: Callable[[], object],
    second: Callable[[], object],
    turns: int,
    prepare: Callable[[], object] = lambda: None,
) -> tuple[list[float], list[float]]:
    """Return the seconds of two calls that take turns, after one turn that warms up.

    `prepare` is called before each turn, outside the timing.
    """
    timings = []
    for _ in range(1 + turns):
        prepare()
        timings.append((time_call(first), time_call(second)))
    ours, theirs = zip(*timings[1:], strict=True)
    return list(ours), list(theirs)
