"""Take the pictures of the documents: `make pictures`. Needs Chromium."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from docs.browser import CHROMIUM, Browser, open_browser

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

[engagement.email]
open = 0.4
click = 0.08
unsubscribe = 0.01
spam = 0.002
machine_open = 0.1
delay = { median = "1s", p99 = "4s" }
"""

WEB_PORT, FLOWER_PORT = 18080, 15555

TIMEOUT_SECONDS = 90
"""Longest wait for any condition."""

SETTLED_JS = (
    'Number((document.querySelector("[data-settled]")?.textContent || "0").replace(/,/g, ""))'
)
FLOWER_ROWS_JS = 'document.querySelectorAll("#tasks-table tbody tr").length'
FIRST_MESSAGE_JS = 'document.querySelector("tbody td a").href'


def main() -> None:
    """Run a campaign on a stack of its own, and take the pictures meanwhile."""
    if CHROMIUM is None:
        sys.exit("pictures: chromium is not installed; apt-get install chromium")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-") as path:
        folder = Path(path)
        with _run_stack(folder), open_browser(folder / "browser") as browser:
            _take_pictures(folder, browser)


@contextmanager
def _run_stack(folder: Path) -> Iterator[None]:
    """Run `sendtrace up` until the block ends."""
    arguments = ["up", "--port", str(WEB_PORT), "--flower-port", str(FLOWER_PORT)]
    log = folder / "up.log"
    with log.open("w+") as output:
        stack = _start_sendtrace(folder, *arguments, output=output.fileno())
        try:
            _wait_until(lambda: "Ctrl-C" in log.read_text())
            yield
        finally:
            stack.terminate()
            stack.wait()


def _start_sendtrace(folder: Path, *arguments: str, output: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "simulator", *arguments],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "SENDTRACE_HOME": str(folder / "home")},
        stdout=output,
        stderr=output,
    )


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"pictures: a page was not ready within {TIMEOUT_SECONDS} s")
        time.sleep(0.1)


def _take_pictures(folder: Path, browser: Browser) -> None:
    scenario = folder / "festive-sale.toml"
    scenario.write_text(SCENARIO)
    run = _start_sendtrace(folder, "simulate", str(scenario), "--attach", output=subprocess.DEVNULL)
    _take_live_page(browser, f"http://127.0.0.1:{WEB_PORT}")
    _take_flower(browser, f"http://127.0.0.1:{FLOWER_PORT}")
    if run.wait() != 0:
        sys.exit(f"pictures: the run ended with exit code {run.returncode}")
    browser.set_viewport(scale=1.5)
    browser.open(f"http://127.0.0.1:{WEB_PORT}/campaigns/1/messages?engagement=clicked")
    browser.open(browser.evaluate(FIRST_MESSAGE_JS))
    _save_screenshot(browser, "message", height=900)


def _take_live_page(browser: Browser, address: str) -> None:
    browser.set_viewport(scale=1.5, height=1_000)
    browser.open(address)
    _wait_until(lambda: "diwali-sms" in str(browser.evaluate("document.body?.innerText")))
    browser.open(f"{address}/campaigns/1")
    _wait_until(lambda: browser.evaluate(SETTLED_JS) > 33_000)
    _save_screenshot(browser, "live-page", height=1_000)


def _take_flower(browser: Browser, address: str) -> None:
    browser.set_viewport(scale=1.5, width=1_600)
    browser.open(f"{address}/tasks")
    _wait_until(lambda: browser.evaluate(FLOWER_ROWS_JS) > 5)
    _save_screenshot(browser, "flower-tasks", width=1_600, height=620)


def _save_screenshot(browser: Browser, name: str, *, width: int = 1_200, height: int) -> None:
    box = {"x": 0.0, "y": 0.0, "width": float(width), "height": float(height)}
    image = browser.take_screenshot(box, format="webp", quality=80)
    (PICTURES / f"{name}.webp").write_bytes(image)


if __name__ == "__main__":
    main()
