"""The lines of the table. docs/benchmarks.md explains each measure and its target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Json = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None
"""What bench.json can hold."""


@dataclass(frozen=True, kw_only=True)
class TableLine:
    """One line of the table. `reached` is None where there is no target."""

    measure: str
    figure: str
    beside: str = ""
    ratio: float | None = None
    wanted: str = ""
    reached: bool | None = None

    def as_json(self, database: str) -> Mapping[str, Json]:
        """Return the line as it stands in bench.json."""
        return {
            "database": database,
            "measure": self.measure,
            "figure": self.figure,
            "beside": self.beside,
            "ratio": self.ratio,
            "wanted": self.wanted,
            "reached": self.reached,
        }

    def as_row(self, database: str) -> Mapping[str, Json]:
        """Return the line as it is printed."""
        ratio = "" if self.ratio is None else f"{self.ratio:,.2f}"
        reached = {None: "", True: "yes", False: "no"}[self.reached]
        return {**self.as_json(database), "ratio": ratio, "reached": reached}


@dataclass(frozen=True)
class Measure:
    """What a line measures, and its target.

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

    @property
    def target(self) -> str:
        """The target as text; empty if there is none."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}{self.unit}"
        return "" if self.below is None else f"< {self.below:g}{self.unit}"

    def make_line(
        self, value: float | None, figure: str, beside: str = "", *, detail: str = ""
    ) -> TableLine:
        """Return the line of a value, which is None if it could not be measured.

        `beside` is what the figure is compared with; `detail` tells lines of one measure apart.
        """
        reached = None
        if self.target:
            reached = value is not None and (
                value >= self.at_least if self.at_least is not None else value < (self.below or 0)
            )
        return TableLine(
            measure=f"{self.name}, {detail}" if detail else self.name,
            figure=figure,
            beside=beside,
            ratio=None if self.unit else value,
            wanted=self.target,
            reached=reached,
        )

    def compare_rates(self, rate: float, other: float, *, detail: str = "") -> TableLine:
        """Return the line of two rates a second, the first divided by the second."""
        return self.make_line(rate / other, f"{rate:,.0f}/s", f"{other:,.0f}/s", detail=detail)

    def compare_seconds(self, ours: float, query: float, *, detail: str) -> TableLine:
        """Return the line of two durations in seconds, the second divided by the first."""
        figure, beside = (f"{seconds * 1e3:,.2f} ms" for seconds in (ours, query))
        return self.make_line(query / ours, figure, beside, detail=detail)
