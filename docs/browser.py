"""A driver of Chromium, for the pictures of the documents and for the tests of the pages."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
"""The path of the browser, None if it isn't installed."""


class BrowserError(Exception):
    """The browser refused a command, or has ended."""


class PageReplacedError(BrowserError):
    """The page was replaced by another one before it answered a command."""


PAGE_REPLACED = {
    "Inspected target navigated or closed",
    "Execution context was destroyed.",
    "Cannot find default execution context",
}
"""What Chromium answers to a command if the page reloads itself or opens another page."""


class Browser:
    """A Chromium that is driven through a pipe, by its DevTools protocol.

    Attributes:
        events: the events that the page has sent since it was opened.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("expected a process with pipes")
        self._commands, self._messages = process.stdin, process.stdout
        self._last_id = 0
        self._session: str | None = None
        self.events: list[Any] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Page.setLifecycleEventsEnabled", enabled=True)

    def send(self, method: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol and return its result."""
        self._last_id += 1
        command = {"id": self._last_id, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        self._commands.write(json.dumps(command).encode() + b"\0")
        self._commands.flush()
        while True:
            message = self._read_message()
            if message.get("id") == self._last_id:
                if message.get("error", {}).get("message") in PAGE_REPLACED:
                    raise PageReplacedError(f"{method}: {message}")
                if "result" not in message:
                    raise BrowserError(f"{method}: {message}")
                return message["result"]
            self.events.append(message)

    def open(self, address: str) -> None:
        """Open a page and wait until it is loaded."""
        self.events.clear()
        loader = self.send("Page.navigate", url=address)["loaderId"]
        # The event must be that of this navigation: the previous page may have reloaded itself.
        while not any(
            event["name"] == "load" and event["loaderId"] == loader
            for event in self.find_events("Page.lifecycleEvent")
        ):
            self.events.append(self._read_message())

    def find_events(self, method: str) -> list[Any]:
        """Return the parameters of the page's events of one kind."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, or of the promise that it yields.

        The expression must only read the page: if the page reloads itself meanwhile, it is
        evaluated again on the new page.
        """
        answer = None
        while answer is None:
            with suppress(PageReplacedError):
                answer = self.send(
                    "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
                )
        if "exceptionDetails" in answer:
            raise BrowserError(str(answer))
        return answer["result"].get("value")

    def set_viewport(
        self,
        *,
        width: int = 1_200,
        height: int = 900,
        scheme: str = "light",
        medium: str = "screen",
        scale: float = 2,
    ) -> None:
        """Set the size of the page in CSS pixels, and its media.

        The scheme is `light` or `dark`, the medium `screen` or `print`. The scale is the number of
        device pixels of a CSS pixel.
        """
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )
        color_scheme = {"name": "prefers-color-scheme", "value": scheme}
        self.send("Emulation.setEmulatedMedia", media=medium, features=[color_scheme])

    def take_screenshot(self, box: dict[str, float], **options: Any) -> bytes:
        """Return a box of the page as an image, PNG unless the options of the protocol differ."""
        clip = {**box, "scale": 1}
        screenshot = self.send(
            "Page.captureScreenshot", clip=clip, captureBeyondViewport=True, **options
        )
        return base64.b64decode(screenshot["data"])

    def _read_message(self) -> Any:
        message = bytearray()
        while not message.endswith(b"\0"):
            byte = self._messages.read(1)
            if not byte:
                raise BrowserError("the browser has ended")
            message += byte
        return json.loads(message[:-1])


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Start a browser that reaches no host but this machine.

    Args:
        profile: the folder of its user data.
    """
    command = [
        str(CHROMIUM),
        "--headless",
        "--disable-gpu",
        "--no-first-run",
        "--no-sandbox",
        "--disable-background-networking",
        "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
    ]
    # Chromium reads commands from descriptor 3 and writes messages to descriptor 4.
    redirect = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
    with subprocess.Popen(
        ["sh", "-c", redirect, "chromium", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        browser = Browser(process)
        yield browser
        browser.send("Browser.close")
