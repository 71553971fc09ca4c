"""A browser for tests: what a person sees of a page, and does with a keyboard."""

from collections.abc import Iterator

import pytest

from docs.browser import CHROMIUM, Browser, open_browser

needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed; apt-get install chromium"
)

KEYS = {"Tab": (9, ""), "Enter": (13, "\r")}
"""Keys: their codes, and the text that they type."""

OPEN_DETAILS_JS = "document.querySelectorAll('details').forEach(details => details.open = true)"

CUT_OFF_JS = """
[...document.querySelectorAll("body *")].filter(element => {
    if (element instanceof SVGElement || !element.getClientRects().length) return false;
    if (element.closest(".visually-hidden, thead")) return false;
    const box = element.getBoundingClientRect();
    const isInline = getComputedStyle(element).display === "inline";
    return box.left < -1 || box.right > innerWidth + 1
        || (!isInline && element.scrollWidth > element.clientWidth + 1);
}).map(element => `${element.tagName} ${element.className}: ${element.textContent.slice(0, 60)}`)
"""
"""The elements that are wider than the page, or that need scrolling to the side."""


def press_key(page: Browser, key: str) -> None:
    """Press one of KEYS."""
    code, text = KEYS[key]
    event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
    page.send("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
    page.send("Input.dispatchKeyEvent", type="keyUp", **event)


def list_problems(page: Browser) -> list[str]:
    """Return what the browser has logged since the page was opened."""
    return [event["entry"]["text"] for event in page.find_events("Log.entryAdded")]


def find_cut_off(page: Browser, width: int) -> list[str]:
    """Return what is cut off at a width, with all details open; first the page, if it is wider."""
    page.set_viewport(width=width)
    page.evaluate(OPEN_DETAILS_JS)
    page_width = page.evaluate("document.documentElement.scrollWidth")
    wider = [] if page_width == width else [f"the page is {page_width} pixels wide"]
    return [*wider, *page.evaluate(CUT_OFF_JS)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser
