"""Takes the pictures in README.md: ``make pictures``. It needs Chromium."""

import base64
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.browser import CHROMIUM, Browser, open_browser

PICTURES = Path(__file__).parent / "pictures"

SCENARIO = """
name = "festive-sale"
seed = 42

[[campaigns]]
name = "diwali-email"
channel = "email"
audience = 60_000
requires = ["coupon", "last_store"]
load = { shape = { constant = 1_500 } }
defects = { unsubscribed = 0.03, email_missing = 0.01, coupon_expired = 0.02, data_missing = 0.015 }

[[campaigns]]
name = "diwali-sms"
channel = "sms"
audience = 20_000
requires = ["membership"]
load = { shape = { constant = 500 } }
defects = { ndnc = 0.04, not_in_loyalty_program = 0.03 }

[gateways.email]
latency = { median = "2s", p99 = "9s" }
hard_bounce = 0.02
soft_bounce = 0.03

[gateways.sms]
latency = { median = "1s", p99 = "4s" }
hard_bounce = 0.01
"""

WEB, FLOWER = 18080, 15555

LIMIT = 90
"""Seconds that are waited for anything."""


def main() -> None:
    if CHROMIUM is None:
        sys.exit("pictures: there is no chromium; apt-get install chromium")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-") as place:
        folder = Path(place)
        with _stack(folder), open_browser(folder / "browser") as browser:
            _take_pictures(folder, browser)


@contextmanager
def _stack(folder: Path) -> Iterator[None]:
    """``sendtrace up``, until the block ends."""
    command = ["up", "--port", str(WEB), "--flower-port", str(FLOWER)]
    with (folder / "up.log").open("w+") as said:
        stack = _sendtrace(folder, *command, said=said.fileno())
        try:
            _wait_for(lambda: "Ctrl-C stops it all" in (folder / "up.log").read_text())
            yield
        finally:
            stack.terminate()
            stack.wait()


def _sendtrace(folder: Path, *arguments: str, said: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "simulator", *arguments],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "SENDTRACE_HOME": str(folder / "home")},
        stdout=said,
        stderr=said,
    )


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"pictures: not within {LIMIT} s")
        time.sleep(0.1)


def _take_pictures(folder: Path, browser: Browser) -> None:
    scenario = folder / "festive-sale.toml"
    scenario.write_text(SCENARIO)
    run = _sendtrace(folder, "simulate", str(scenario), "--attach", said=subprocess.DEVNULL)
    live, flower = f"http://127.0.0.1:{WEB}", f"http://127.0.0.1:{FLOWER}"
    settled = (
        'Number((document.querySelector("[data-settled]")?.textContent || "0").replace(/,/g, ""))'
    )

    browser.look(scale=1.5, height=1_000)
    browser.open(live)
    _wait_for(lambda: "diwali-sms" in str(browser.evaluate("document.body?.innerText")))
    browser.open(f"{live}/campaigns/1")
    _wait_for(lambda: browser.evaluate(settled) > 33_000)
    _keep(browser, "live-page", height=1_000)
    browser.look(scale=1.5, width=400, height=860, scheme="dark")
    _keep(browser, "live-page-phone", width=400, height=860)
    browser.look(scale=1.5, width=1_600)
    browser.open(f"{flower}/broker")
    _keep(browser, "flower-broker", width=1_600, height=500)
    browser.open(f"{flower}/tasks")
    rows = 'document.querySelectorAll("#tasks-table tbody tr").length'
    _wait_for(lambda: browser.evaluate(rows) > 5)
    _keep(browser, "flower-tasks", width=1_600, height=640)
    if run.wait() != 0:
        sys.exit(f"pictures: the run ended with exit code {run.returncode}")
    browser.look(scale=1.5)
    browser.open(f"{live}/campaigns/1/messages?status=delivered")
    first = browser.evaluate('document.querySelector("tbody td a").href')
    browser.open(first)
    _keep(browser, "message", height=900)


def _keep(browser: Browser, name: str, *, width: int = 1_200, height: int) -> None:
    box = {"x": 0.0, "y": 0.0, "width": float(width), "height": float(height), "scale": 1.0}
    shot = browser.ask("Page.captureScreenshot", format="webp", quality=80, clip=box)
    (PICTURES / f"{name}.webp").write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main()
