"""How charts look, and their pictures as SVG, laid out by Vega-Lite.

Colours are custom properties of the page's style (``--series-1`` …, ``--grid``, ``--axis``), and
text has the colour of the text around it: one picture for light, dark and paper. Series differ in
dashes and shapes as well, for those who see or print no colours.
"""

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from markupsafe import Markup

VEGA_LITE = "6.4"
"""The version that our specifications are for; vl-convert has several."""

CHART_WIDTH, CHART_HEIGHT, BAR_HEIGHT = 440, 210, 22
"""Pixels of a chart, and of a row of bars, at its nominal size; pages scale it. It is as small as
this so that its text can still be read when a page is as narrow as a phone."""

LETTER_WIDTH = 6.7
"""Pixels that a letter of a label takes at most, on average: a page's font may be wider, and on a
phone larger, than the one that Vega measures."""


class SeriesStyle(NamedTuple):
    """How a series is told from others; ``shape`` as Vega-Lite calls it, and as a path."""

    colour: str
    dashes: tuple[int, ...]
    shape: str
    path: str


SERIES_STYLES = (
    SeriesStyle("var(--series-1)", (1, 0), "circle", "M18,5A4,4 0 1 1 10,5A4,4 0 1 1 18,5Z"),
    SeriesStyle("var(--series-2)", (7, 3), "square", "M10.5,1.5H17.5V8.5H10.5Z"),
    SeriesStyle("var(--series-3)", (2, 2), "triangle-up", "M14,0.5L18.5,9H9.5Z"),
    SeriesStyle("var(--series-4)", (9, 3, 2, 3), "diamond", "M14,0L19,5L14,10L9,5Z"),
    SeriesStyle("var(--series-5)", (4, 2), "triangle-down", "M14,9.5L18.5,1H9.5Z"),
)

VEGA_CONFIG: Mapping[str, Any] = {
    "aria": False,
    "font": "sans-serif",
    "background": None,
    "view": {"stroke": None},
    "axis": {
        **{f"{part}Color": "currentColor" for part in ("label", "title")},
        **{f"{part}Color": "var(--axis)" for part in ("domain", "tick")},
        "gridColor": "var(--grid)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelFlush": False,
        "titlePadding": 9,
    },
}


def looks(count: int) -> list[SeriesStyle]:
    """The looks of so many series; after the last one they begin again."""
    return [SERIES_STYLES[place % len(SERIES_STYLES)] for place in range(count)]


def bar_opacities(count: int) -> list[float]:
    """How full the parts of a bar are, from its beginning: the last one is solid."""
    return [1 - 0.75 * (count - 1 - place) / max(count - 1, 1) for place in range(count)]


def line_swatches(count: int) -> Iterable[Markup]:
    for look in looks(count):
        dashes = " ".join(map(str, look.dashes))
        yield _swatch(
            f'<path d="M0,5H28" stroke="{look.colour}" stroke-width="2"'
            f' stroke-dasharray="{dashes}"/>'
        )


def bar_swatches(count: int) -> Iterable[Markup]:
    for look, opacity in zip(looks(count), bar_opacities(count), strict=True):
        yield _swatch(
            f'<rect x="7.5" y="0.5" width="14" height="9" fill="{look.colour}"'
            f' fill-opacity="{opacity:.2g}" stroke="{look.colour}"/>'
        )


def point_swatches(count: int) -> Iterable[Markup]:
    for look in looks(count):
        yield _swatch(f'<path d="{look.path}" fill="{look.colour}"/>')


def _swatch(shape: str) -> Markup:
    """How a series looks, as a small picture."""
    head = '<svg class="swatch" viewBox="0 0 28 10" aria-hidden="true">'
    return Markup(f"{head}{shape}</svg>")  # noqa: S704  # nothing in it is from outside


def render_svg(spec: Mapping[str, Any], label: str) -> Markup:
    """A Vega-Lite specification as an SVG picture, ``CHART_WIDTH`` wide, for those who can't see it
    called ``label``."""
    # It takes long to load, and only those who want a picture should wait for it.
    import vl_convert

    svg = vl_convert.vegalite_to_svg(
        {"width": CHART_WIDTH, **spec}, VEGA_LITE, config=dict(VEGA_CONFIG)
    )
    head, body = svg.split(">", 1)
    [box] = _VIEW_BOX.findall(head)
    body = _NUMERIC_ATTRIBUTE.sub(lambda found: _LONG_DECIMAL.sub(r"\1", found[0]), body)
    return Markup(  # noqa: S704  # Vega escapes what it writes
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {box} role="img"'
        f' aria-label="{html.escape(label)}">{body}'
    )


_VIEW_BOX = re.compile(r'viewBox="[^"]*"')
_NUMERIC_ATTRIBUTE = re.compile(r' (?:d|transform|x2|y2|width|height)="[^"]*"')
_LONG_DECIMAL = re.compile(r"(\.\d\d)\d+")
"""A hundredth of a pixel is all that can be seen; Vega writes them to sixteen places."""
