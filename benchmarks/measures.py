"""The lines of the table. docs/benchmarks.md explains each measure and its target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Json = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None
"""What bench.json can hold."""

TableLine = Mapping[str, Json]
"""One line of the table, as bench.json has it. `reached` is None without a target."""


@dataclass(frozen=True)
class Measure:
    """A measure of the table, and its target.

    Attributes:
        name: the formula of a ratio, or the name of a figure.
        at_least: smallest value that reaches the target.
        below: value that the target stays under.
        unit: unit of the value; without a unit, the value is a ratio.
    """

    name: str
    at_least: float | None = None
    below: float | None = None
    unit: str = ""

    def make_line(
        self, value: float | None, figure: str, compared_with: str = "", *, detail: str = ""
    ) -> TableLine:
        """Return the line of a value, which is None if it could not be measured.

        `detail` tells lines of one measure apart.
        """
        wanted, reached = "", None
        if self.at_least is not None:
            wanted = f"≥ {self.at_least:g}{self.unit}"
            reached = value is not None and value >= self.at_least
        elif self.below is not None:
            wanted = f"< {self.below:g}{self.unit}"
            reached = value is not None and value < self.below
        return {
            "measure": f"{self.name}, {detail}" if detail else self.name,
            "figure": figure,
            "beside": compared_with,
            "ratio": None if self.unit else value,
            "wanted": wanted,
            "reached": reached,
        }

    def compare_rates(self, rate: float, other: float, *, detail: str = "") -> TableLine:
        """Return the line of two rates per second, the first divided by the second."""
        return self.make_line(rate / other, f"{rate:,.0f}/s", f"{other:,.0f}/s", detail=detail)

    def compare_seconds(self, ours: float, query: float, *, detail: str) -> TableLine:
        """Return the line of two durations in seconds, the second divided by the first."""
        figure, other = (f"{seconds * 1e3:,.2f} ms" for seconds in (ours, query))
        return self.make_line(query / ours, figure, other, detail=detail)


def format_line(line: TableLine) -> TableLine:
    """Return a line as it is printed."""
    ratio = "" if line["ratio"] is None else f"{line['ratio']:,.2f}"
    reached = "" if line["reached"] is None else "yes" if line["reached"] else "no"
    return {**line, "ratio": ratio, "reached": reached}
