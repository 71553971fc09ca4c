"""The page of a real run in a real browser, without a network: what a person would see of it."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Finished

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium; apt-get install chromium"
)

ENOUGH = 20
"""Pixels of a colour that something which is drawn has for certain."""


class Browser:
    """A Chromium that is told what to do through a pipe, by its DevTools protocol."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._number = 0
        self._session: str | None = None
        self.events: list[Any] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **told: Any) -> Any:
        """The answer to a command; what happens meanwhile is kept in ``events``."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": told}
        if self._session is not None:
            command["sessionId"] = self._session
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\0")
        self._process.stdin.flush()
        while True:
            said = self._hear()
            if said.get("id") == self._number:
                assert "result" in said, said
                return said["result"]
            self.events.append(said)

    def open(self, file: Path) -> None:
        """Show a page, and come back when it is loaded."""
        self.events.clear()
        self.ask("Page.navigate", url=file.as_uri())
        while not self.happened("Page.loadEventFired"):
            self.events.append(self._hear())

    def happened(self, method: str) -> list[Any]:
        return [each["params"] for each in self.events if each.get("method") == method]

    def evaluate(self, expression: str) -> Any:
        """What an expression of JavaScript, or a promise of it, comes to in the page."""
        answer = self.ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def look(self, *, width: int = 1_200, scheme: str = "light", medium: str = "screen") -> None:
        """Look at the page like this from now on."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=2,
            mobile=False,
        )
        dark_or_light = {"name": "prefers-color-scheme", "value": scheme}
        self.ask("Emulation.setEmulatedMedia", media=medium, features=[dark_or_light])

    def picture(self, box: dict[str, float]) -> bytes:
        """What is seen in a box of the page, as PNG."""
        shot = self.ask(
            "Page.captureScreenshot", clip={**box, "scale": 1}, captureBeyondViewport=True
        )
        return base64.b64decode(shot["data"])

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        said = bytearray()
        while not said.endswith(b"\0"):
            byte = self._process.stdout.read(1)
            assert byte, "the browser has gone"
            said += byte
        return json.loads(said[:-1])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that finds nobody on any network."""
    command = [
        *(str(CHROMIUM), "--headless", "--disable-gpu", "--no-first-run", "--no-sandbox"),
        *("--disable-background-networking", "--hide-scrollbars"),
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--remote-debugging-pipe",
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
    ]
    # It hears commands on its third descriptor, and speaks on its fourth.
    pipes = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
    with subprocess.Popen(
        ["sh", "-c", pipes, "chromium", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        browser = Browser(process)
        yield browser
        browser.ask("Browser.close")


@pytest.fixture
def page(browser: Browser, on_sqlite: Finished) -> Browser:
    """The page of a finished run, opened by day."""
    browser.look()
    browser.open(on_sqlite.shell.home / "runs" / "1" / "report.html")
    return browser


CHARTS = """
[...document.querySelectorAll("svg.chart")].map(svg => {
    const box = svg.getBoundingClientRect();
    const inside = each => {
        const its = each.getBoundingClientRect();
        return its.left >= box.left - 2 && its.right <= box.right + 2
            && its.top >= box.top - 2 && its.bottom <= box.bottom + 2;
    };
    const marks = [...svg.querySelectorAll(
        ".mark-line.role-mark path, .mark-symbol.role-mark path, .mark-rect.role-mark path")];
    const texts = [...svg.querySelectorAll("text")];
    const colours = marks.flatMap(each => {
        const style = getComputedStyle(each);
        return [style.stroke, style.fill];
    });
    return {
        title: svg.getAttribute("aria-label"),
        box: {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height},
        inside: marks.every(inside) && texts.every(inside),
        colours: [...new Set(colours.filter(each => each !== "none"))],
        texts: texts.length,
        text: getComputedStyle(texts[0]).fill,
    };
})
"""

PIXELS = """
(async () => {
    const image = new Image();
    image.src = "data:image/png;base64,%s";
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const data = context.getImageData(0, 0, image.width, image.height).data;
    const seen = {};
    for (let i = 0; i < data.length; i += 4) {
        const colour = `rgb(${data[i]}, ${data[i + 1]}, ${data[i + 2]})`;
        seen[colour] = (seen[colour] || 0) + 1;
    }
    return seen;
})()
"""


WITHOUT = """
[...document.querySelectorAll("figure")].filter(each => !each.querySelector("svg.chart"))
    .map(each => each.querySelector("h3").textContent)
"""
"""The titles of charts without a picture."""

MAY_BE_EMPTY = {"Tasks that wait, by queue", "Tasks that workers hold, by queue"}
"""Who looks at a queue once a second may find it empty each time."""


def pixels(browser: Browser, box: dict[str, float]) -> dict[str, int]:
    """How many pixels of each colour are seen in a box."""
    seen = browser.evaluate(PIXELS % base64.b64encode(browser.picture(box)).decode())
    assert isinstance(seen, dict)
    return seen


def colours(browser: Browser) -> list[list[str]]:
    """The colours of what is drawn in each chart, as the browser made them out."""
    return [chart["colours"] for chart in browser.evaluate(CHARTS)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_drawn(page: Browser, scheme: str) -> None:
    page.look(scheme=scheme)
    charts = page.evaluate(CHARTS)
    assert set(page.evaluate(WITHOUT)) <= MAY_BE_EMPTY
    assert len(charts) + len(page.evaluate(WITHOUT)) == 11
    for chart in charts:
        assert chart["box"]["width"] > 300
        assert chart["box"]["height"] > 60
        assert chart["texts"] > 3, chart["title"]
        assert chart["inside"], chart["title"]
        seen = pixels(page, chart["box"])
        assert any(seen.get(colour, 0) >= ENOUGH for colour in chart["colours"]), chart
        assert seen.get(chart["text"], 0) >= ENOUGH, chart


def test_night_has_colours_of_its_own_and_paper_those_of_the_day(page: Browser) -> None:
    by_day = colours(page)
    page.look(scheme="dark")
    by_night = colours(page)
    assert all(set(day).isdisjoint(night) for day, night in zip(by_day, by_night, strict=True))
    page.look(scheme="dark", medium="print")
    assert colours(page) == by_day


def test_it_asks_for_nothing_and_nothing_is_refused(page: Browser, on_sqlite: Finished) -> None:
    file = on_sqlite.shell.home / "runs" / "1" / "report.html"
    asked = [each["request"]["url"] for each in page.happened("Network.requestWillBeSent")]
    assert asked == [file.as_uri()]
    assert page.happened("Log.entryAdded") == []


def test_it_is_as_wide_as_a_phone(page: Browser) -> None:
    page.look(width=360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert all(chart["inside"] for chart in page.evaluate(CHARTS))
