"""Viewers of the live page: what they cost a run, and how long they wait for a page."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from urllib.parse import urlsplit

import numpy as np

from benchmarks.command import BenchmarkRunFailed
from benchmarks.meter import time_call
from simulator.background import run_in_background

VIEWER_COUNT = 10

CONNECT_INTERVAL_SECONDS = 0.5
"""Time between two attempts to follow a campaign that may not exist yet."""

CHART_INTERVAL_SECONDS = 5.0
"""Time between two loads of the charts; the page's script has the same interval."""

RESPONSE_TIMEOUT_SECONDS = 30.0

PAGE_PATHS = (
    "/",
    "/campaigns/1",
    "/campaigns/1/charts",
    "/campaigns/1/messages",
    "/campaigns/1/messages?after={late}",
    "/campaigns/1/messages?status=delivered&after={middle}",
    "/campaigns/1/messages?status=hard_bounced",
    "/campaigns/1/messages?reason=timeout",
    "/campaigns/1/messages?customer=c{late}",
    "/campaigns/1/messages/{late}",
    "/runs",
    "/api/campaigns",
    "/api/campaigns/1/report",
    "/api/campaigns/1/messages?limit=500",
    "/api/campaigns/1/messages/{late}",
    "/api/campaigns/1/messages/{late}/checks",
    "/api/runs",
)
"""Pages and API paths that are timed; `middle` and `late` are message numbers."""


@contextmanager
def run_viewers(address: str) -> Iterator[None]:
    """Have viewers follow the first campaign while the block runs, as soon as there is one."""

    def follow(stop: threading.Event) -> None:
        while not stop.wait(CONNECT_INTERVAL_SECONDS):
            with suppress(OSError, http.client.HTTPException):
                _follow_campaign(address, stop)

    with ExitStack() as stack:
        for number in range(VIEWER_COUNT):
            stack.enter_context(run_in_background(follow, f"viewer {number}"))
        yield


def _follow_campaign(address: str, stop: threading.Event) -> None:
    charts_at = 0.0
    with closing(_connect(address)) as connection:
        connection.request("GET", "/api/events?campaign=1")
        response = connection.getresponse()
        while response.status == http.client.OK and not stop.is_set() and response.readline():
            if time.monotonic() - charts_at > CHART_INTERVAL_SECONDS:
                charts_at = time.monotonic()
                load_page(address, "/campaigns/1/charts")


def find_slowest_page(address: str, messages: int, calls: int) -> tuple[str, float]:
    """Return the path of the slowest page of the first campaign, and its p95 in seconds.

    The first call of each path warms up; the `calls` after it count.
    """
    percentiles = {}
    for template in PAGE_PATHS:
        path = template.format(middle=messages // 2, late=messages * 9 // 10)
        times = [time_call(partial(load_page, address, path)) for _ in range(1 + calls)]
        percentiles[path] = float(np.percentile(times[1:], 95))
    return max(percentiles.items(), key=lambda item: item[1])


def load_page(address: str, path: str) -> None:
    """Load a page whole.

    Raises:
        BenchmarkRunFailed: unless the response is 200 OK.
    """
    with closing(_connect(address)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
    if response.status != http.client.OK:
        raise BenchmarkRunFailed(f"live page: {path}: got status {response.status}; expected 200")


def _connect(address: str) -> http.client.HTTPConnection:
    url = urlsplit(address)
    return http.client.HTTPConnection(url.hostname or "", url.port, RESPONSE_TIMEOUT_SECONDS)
