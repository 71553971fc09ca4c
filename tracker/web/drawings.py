"""Pictures that all viewers share: drawn again only when they are old."""

import time
from collections.abc import Callable
from threading import Lock

GOOD_FOR = 5.0
"""Seconds that a picture is shown before it is drawn again; a picture takes some 20 ms."""

MOST_KEPT = 100


class Drawings:
    """The latest picture of each thing. Safe to use from many threads: who comes while something is
    being drawn waits for it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._lock = now, Lock()
        self._drawn: dict[int, tuple[float, str]] = {}

    def latest(self, key: int, draw: Callable[[], str]) -> str:
        """The picture of ``key``, made by ``draw`` unless there is one that is new enough."""
        with self._lock:
            drawn_at, picture = self._drawn.get(key, (0.0, ""))
            if not picture or self._now() - drawn_at >= GOOD_FOR:
                picture = draw()
                self._drawn.pop(key, None)
                self._drawn[key] = self._now(), picture
                while len(self._drawn) > MOST_KEPT:
                    del self._drawn[next(iter(self._drawn))]
            return picture
