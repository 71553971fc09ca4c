"""Draw charts as SVG with Vega-Lite, in this process or in a child process.

Colours are custom properties of the page's style (`--series-1` …, `--grid`, `--axis`), and text has
the colour of the text around it: one SVG serves light, dark and paper. Series also differ in dashes
and shapes, for readers who see or print no colours.
"""

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from tracker.errors import SendtraceError

VEGA_LITE_VERSION = "6.4"
"""The version of Vega-Lite that the specifications are written for; vl-convert has several."""

CHART_WIDTH, CHART_HEIGHT, BAR_HEIGHT = 440, 210, 22
"""Nominal pixels of a chart, and of one row of bars; pages scale a chart. Small enough for its text
to remain readable on a phone."""

LETTER_WIDTH = 6.7
"""Pixels that a letter of a label takes at most, on average. The font of a page may be wider than
the one that Vega measures."""

CHILD_TIMEOUT_SECONDS = 120
"""Time for a child process to draw all charts of a page; it takes about a second."""

VIEW_BOX = re.compile(r'viewBox="[^"]*"')
NUMERIC_ATTRIBUTE = re.compile(r' (?:d|transform|x2|y2|width|height)="[^"]*"')
LONG_DECIMAL = re.compile(r"(\.\d\d)\d+")
"""Decimals beyond a hundredth of a pixel, which are invisible; Vega writes sixteen."""


class SeriesStyle(NamedTuple):
    """The style that distinguishes a series.

    Attributes:
        shape: name of the point's shape in Vega-Lite.
        path: the same shape as an SVG path.
    """

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


@dataclass(frozen=True)
class Drawing:
    """A Vega-Lite specification, with a label for screen readers."""

    spec: Mapping[str, Any]
    label: str


class DrawingFailed(SendtraceError):
    """A child process could not draw the charts of a page."""


def series_styles(count: int) -> list[SeriesStyle]:
    """Return the styles of a number of series; they repeat after the last."""
    return [SERIES_STYLES[place % len(SERIES_STYLES)] for place in range(count)]


def bar_opacities(count: int) -> list[float]:
    """Return the opacities of a bar's parts; the last part is solid."""
    return [1 - 0.75 * (count - 1 - place) / max(count - 1, 1) for place in range(count)]


def line_swatches(count: int) -> Iterable[Markup]:
    """Yield the legend's samples of a number of lines."""
    for style in series_styles(count):
        dashes = " ".join(map(str, style.dashes))
        yield _swatch(
            f'<path d="M0,5H28" stroke="{style.colour}" stroke-width="2"'
            f' stroke-dasharray="{dashes}"/>'
        )


def bar_swatches(count: int) -> Iterable[Markup]:
    """Yield the legend's samples of a bar's parts."""
    for style, opacity in zip(series_styles(count), bar_opacities(count), strict=True):
        yield _swatch(
            f'<rect x="7.5" y="0.5" width="14" height="9" fill="{style.colour}"'
            f' fill-opacity="{opacity:.2g}" stroke="{style.colour}"/>'
        )


def point_swatches(count: int) -> Iterable[Markup]:
    """Yield the legend's samples of a number of points."""
    for style in series_styles(count):
        yield _swatch(f'<path d="{style.path}" fill="{style.colour}"/>')


def _swatch(shape: str) -> Markup:
    head = '<svg class="swatch" viewBox="0 0 28 10" aria-hidden="true">'
    return Markup(f"{head}{shape}</svg>")  # noqa: S704  # nothing in it comes from users


def draw_svgs(drawings: Sequence[Drawing]) -> list[Markup]:
    """Draw SVGs in this process, which then keeps 100 MB of V8 for the next ones."""
    import vl_convert  # its first drawing takes half a second

    config = dict(VEGA_CONFIG)
    return [
        _finish_svg(
            vl_convert.vegalite_to_svg(
                {"width": CHART_WIDTH, **drawing.spec}, VEGA_LITE_VERSION, config=config
            ),
            drawing.label,
        )
        for drawing in drawings
    ]


def _finish_svg(svg: str, label: str) -> Markup:
    """Return an SVG without a fixed size and long decimals, with a label for screen readers."""
    head, body = svg.split(">", 1)
    [box] = VIEW_BOX.findall(head)
    body = NUMERIC_ATTRIBUTE.sub(lambda match: LONG_DECIMAL.sub(r"\1", match[0]), body)
    return Markup(  # noqa: S704  # Vega escapes what it writes
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {box} role="img"'
        f' aria-label="{html.escape(label)}">{body}'
    )


def draw_svgs_in_child(drawings: Sequence[Drawing]) -> list[Markup]:
    """Draw SVGs in a child process, so that the memory of V8 is free again afterwards.

    Raises:
        DrawingFailed: the child process failed or took too long.
    """
    if not drawings:
        return []
    request = json.dumps([[drawing.spec, drawing.label] for drawing in drawings])
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", "tracker.output.svg"],
            input=request,
            capture_output=True,
            encoding="utf-8",
            timeout=CHILD_TIMEOUT_SECONDS,
            start_new_session=True,  # Ctrl-C asks the parent to finish its page
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise DrawingFailed(f"drawing charts took longer than {error.timeout:g} s") from None
    except subprocess.CalledProcessError as error:
        last_line = (error.stderr.strip().splitlines() or ["no error message"])[-1]
        raise DrawingFailed(
            f"drawing charts failed with exit code {error.returncode}: {last_line}"
        ) from None
    return [Markup(svg) for svg in json.loads(child.stdout)]  # noqa: S704  # see _finish_svg


def main() -> None:
    """Draw the SVGs for `draw_svgs_in_child`: specifications on stdin, SVGs on stdout, as JSON."""
    drawings = [Drawing(spec, label) for spec, label in json.load(sys.stdin)]
    json.dump(draw_svgs(drawings), sys.stdout)


if __name__ == "__main__":
    main()
