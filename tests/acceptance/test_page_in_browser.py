"""The result page of a real run in a real browser, without a network."""

import base64

import pytest

from docs.browser import Browser
from simulator.figures import PERCENTILES
from tests.support.browser import find_cut_off, list_problems, needs_browser
from tests.support.shell import FinishedRun

pytestmark = needs_browser

MIN_PIXELS = 20
"""Pixels that a mark or a text has at least."""


@pytest.fixture
def page(browser: Browser, on_sqlite: FinishedRun) -> Browser:
    """Open the result page of a finished run in the light scheme."""
    browser.set_viewport()
    browser.open((on_sqlite.shell.home / "runs" / "1" / "report.html").as_uri())
    return browser


CHARTS_JS = """
[...document.querySelectorAll("svg.chart")].map(svg => {
    const box = svg.getBoundingClientRect();
    const inside = element => {
        const own = element.getBoundingClientRect();
        return own.left >= box.left - 2 && own.right <= box.right + 2
            && own.top >= box.top - 2 && own.bottom <= box.bottom + 2;
    };
    const marks = [...svg.querySelectorAll(
        ".mark-line.role-mark path, .mark-symbol.role-mark path, .mark-rect.role-mark path")];
    const texts = [...svg.querySelectorAll("text")];
    const colours = marks.flatMap(mark => {
        const style = getComputedStyle(mark);
        return [style.stroke, style.fill];
    });
    return {
        title: svg.getAttribute("aria-label"),
        box: {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height},
        inside: marks.every(inside) && texts.every(inside),
        colours: [...new Set(colours.filter(colour => colour !== "none"))],
        texts: texts.length,
        text: getComputedStyle(texts[0]).fill,
    };
})
"""

PIXELS_JS = """
(async () => {
    const image = new Image();
    image.src = "data:image/png;base64,%s";
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const data = context.getImageData(0, 0, image.width, image.height).data;
    const counts = {};
    for (let i = 0; i < data.length; i += 4) {
        const colour = `rgb(${data[i]}, ${data[i + 1]}, ${data[i + 2]})`;
        counts[colour] = (counts[colour] || 0) + 1;
    }
    return counts;
})()
"""


EMPTY_CHARTS_JS = """
[...document.querySelectorAll("figure")].filter(figure => !figure.querySelector("svg.chart"))
    .map(figure => figure.querySelector("h3").textContent)
"""
"""The titles of charts without values."""

MAY_BE_EMPTY = {"Ready tasks by queue", "Unacked tasks by queue"}
"""Charts of queues, which may be empty whenever they are sampled."""


def count_pixels(browser: Browser, box: dict[str, float]) -> dict[str, int]:
    """Return the number of pixels of each colour in a box of the page."""
    counts = browser.evaluate(PIXELS_JS % base64.b64encode(browser.take_screenshot(box)).decode())
    assert isinstance(counts, dict)
    return counts


def mark_colours(browser: Browser) -> list[list[str]]:
    """Return the computed colours of the marks of each chart."""
    return [chart["colours"] for chart in browser.evaluate(CHARTS_JS)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_visible(page: Browser, scheme: str) -> None:
    page.set_viewport(scheme=scheme)
    charts = page.evaluate(CHARTS_JS)
    assert set(page.evaluate(EMPTY_CHARTS_JS)) <= MAY_BE_EMPTY
    assert len(charts) + len(page.evaluate(EMPTY_CHARTS_JS)) == 11
    for chart in charts:
        assert chart["box"]["width"] > 300
        assert chart["box"]["height"] > 60
        assert chart["texts"] > 3, chart["title"]
        assert chart["inside"], chart["title"]
        pixels = count_pixels(page, chart["box"])
        assert any(pixels.get(colour, 0) >= MIN_PIXELS for colour in chart["colours"]), chart
        assert pixels.get(chart["text"], 0) >= MIN_PIXELS, chart


def test_the_dark_scheme_has_its_own_colours_and_print_those_of_the_light_one(
    page: Browser,
) -> None:
    light_colours = mark_colours(page)
    page.set_viewport(scheme="dark")
    dark_colours = mark_colours(page)
    assert all(
        set(light).isdisjoint(dark) for light, dark in zip(light_colours, dark_colours, strict=True)
    )
    page.set_viewport(scheme="dark", medium="print")
    assert mark_colours(page) == light_colours


def test_the_page_requests_nothing_and_logs_nothing(page: Browser, on_sqlite: FinishedRun) -> None:
    file = on_sqlite.shell.home / "runs" / "1" / "report.html"
    requested = [event["request"]["url"] for event in page.find_events("Network.requestWillBeSent")]
    assert requested == [file.as_uri()]
    assert list_problems(page) == []


@pytest.mark.parametrize("width", [360, 1_280])
def test_no_element_is_cut_off(page: Browser, width: int) -> None:
    assert find_cut_off(page, width) == []


def test_every_value_has_its_label_on_a_phone(page: Browser) -> None:
    page.set_viewport(width=360)
    labels = page.evaluate(
        """[...document.querySelectorAll("#latency ~ .scroll td:not(:empty)")].map(
            cell => getComputedStyle(cell, "::before").content)"""
    )
    assert labels[:6] == [f'"{name}"' for name in PERCENTILES]


def test_the_summary_takes_about_half_a_page(page: Browser) -> None:
    """A page of paper is 1.41 times as high as it is wide."""
    page.set_viewport(width=1_280)
    assert page.evaluate("document.getElementById('checks').getBoundingClientRect().top") < 1_000


def test_charts_fit_a_phone(page: Browser) -> None:
    page.set_viewport(width=360)
    assert all(chart["inside"] for chart in page.evaluate(CHARTS_JS))
