"""The page of a real run in a real browser, without a network: what a person would see of it."""

import base64

import pytest

from tests.support.browser import Browser, needs_browser
from tests.support.shell import Finished

pytestmark = needs_browser

ENOUGH = 20
"""Pixels of a colour that something which is drawn has for certain."""


@pytest.fixture
def page(browser: Browser, on_sqlite: Finished) -> Browser:
    """The page of a finished run, opened by day."""
    browser.look()
    browser.open((on_sqlite.shell.home / "runs" / "1" / "report.html").as_uri())
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
