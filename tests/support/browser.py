"""A real browser for tests: what a person would see, and could do with a keyboard."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")

needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium; apt-get install chromium"
)

KEYS = {"Tab": (9, ""), "Enter": (13, "\r")}
"""Keys by their names: their codes, and the text that they make."""


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

    def open(self, address: str) -> None:
        """Show a page, and come back when it is loaded."""
        self.events.clear()
        self.ask("Page.navigate", url=address)
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

    def look(
        self,
        *,
        width: int = 1_200,
        height: int = 900,
        scheme: str = "light",
        medium: str = "screen",
        scale: float = 2,
    ) -> None:
        """Look at the page like this from now on."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )
        dark_or_light = {"name": "prefers-color-scheme", "value": scheme}
        self.ask("Emulation.setEmulatedMedia", media=medium, features=[dark_or_light])

    def press(self, key: str, **modifiers: int) -> None:
        """Press a key: its name, as in ``Enter``, or a character."""
        code, text = KEYS.get(key, (0, key))
        told = {"key": key, "code": key, "windowsVirtualKeyCode": code, **modifiers}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **told)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **told)

    def problems(self) -> list[str]:
        """What the browser has complained about since the page was opened."""
        return [each["entry"]["text"] for each in self.happened("Log.entryAdded")]

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


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """A browser that finds nobody on any network but this machine."""
    command = [
        *(str(CHROMIUM), "--headless", "--disable-gpu", "--no-first-run", "--no-sandbox"),
        *("--disable-background-networking", "--hide-scrollbars"),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
    ]
    # It hears commands on its third descriptor, and speaks on its fourth.
    pipes = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
    with subprocess.Popen(
        ["sh", "-c", pipes, "chromium", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        browser = Browser(process)
        yield browser
        browser.ask("Browser.close")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened
