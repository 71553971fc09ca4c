"""People who look at the live page: what they cost a run, and how long they wait."""

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

VIEWER_COUNT = 10

CHART_INTERVAL_SECONDS = 5.0
"""Seconds between two looks at the charts, as the page's own program has it."""

CALLS_PER_PATH = 60
"""Calls of each address, of which the 95th percentile is taken."""

ANSWER_TIMEOUT_SECONDS = 30.0
"""Seconds that an answer may take at most."""

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
"""What is asked of a large campaign: message numbers in the middle and late in it."""


@dataclass(frozen=True, kw_only=True)
class SlowestPage:
    """The slowest of :data:`PAGE_PATHS`, by the 95th percentile, in seconds."""

    messages: int
    address: str
    seconds: float


@contextmanager
def serve_live_page(url: str, folder: Path) -> Iterator[str]:
    """The live page on a database, in a process of its own, and its address."""
    environment = {key: value for key, value in os.environ.items() if "SENDTRACE_" not in key}
    environment["SENDTRACE_HOME"] = str(folder / "home")
    command = [sys.executable, "-m", "simulator", "serve", "--port", "0", "--database", url]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().rpartition(" ")[2].strip()
        finally:
            process.terminate()


@contextmanager
def viewers(address: str, count: int = VIEWER_COUNT) -> Iterator[None]:
    """So many people look at the first campaign, as soon as there is one."""
    gone = threading.Event()
    each = [
        threading.Thread(target=_view_pages, args=(address, gone), daemon=True)
        for _ in range(count)
    ]
    for viewer in each:
        viewer.start()
    try:
        yield
    finally:
        gone.set()
        for viewer in each:
            viewer.join(ANSWER_TIMEOUT_SECONDS)


def _view_pages(address: str, gone: threading.Event) -> None:
    while not gone.wait(0.5):
        with suppress(OSError, http.client.HTTPException), closing(_connect(address)) as stream:
            stream.request("GET", "/api/events?campaign=1")
            answer = stream.getresponse()
            drawn_at = 0.0
            while answer.status == http.client.OK and not gone.is_set() and answer.readline():
                if time.monotonic() - drawn_at > CHART_INTERVAL_SECONDS:
                    drawn_at = time.monotonic()
                    time_request(address, "/campaigns/1/charts")


def time_pages(url: str, folder: Path, messages: int) -> SlowestPage:
    """How long somebody waits for the slowest page on an idle machine."""
    with serve_live_page(url, folder) as address:
        numbers = {"middle": messages // 2, "late": messages * 9 // 10}
        times = {
            path: _measure_percentile(address, path)
            for path in (each.format(**numbers) for each in PAGE_PATHS)
        }
    slowest = max(times, key=lambda each: times[each])
    return SlowestPage(messages=messages, address=slowest, seconds=times[slowest])


def _measure_percentile(address: str, path: str) -> float:
    time_request(address, path)
    taken: Sequence[float] = [time_request(address, path) for _ in range(CALLS_PER_PATH)]
    return float(np.percentile(taken, 95))


def time_request(address: str, path: str) -> float:
    """Seconds until a page was there, all of it."""
    began = time.perf_counter()
    with closing(_connect(address)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
    assert answer.status == http.client.OK, f"{path}: {answer.status}"
    return time.perf_counter() - began


def _connect(address: str) -> http.client.HTTPConnection:
    parts = urlsplit(address)
    return http.client.HTTPConnection(
        parts.hostname or "", parts.port, timeout=ANSWER_TIMEOUT_SECONDS
    )
