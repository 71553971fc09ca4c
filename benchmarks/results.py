"""The contents of bench.json. `docs/bench.schema.json` is generated from these classes."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT_VERSION: Final = 2
"""Version of the file. It changes when a key changes its meaning or goes."""

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
"""Names of the kinds of databases that are measured."""

COMPARISONS = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}


class InvalidResult(Exception):
    """A file isn't a result of the benchmark."""


class ResultPart(BaseModel):
    """A part of bench.json. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Spread(ResultPart):
    """All values of a figure, with their median, lowest and highest."""

    median: float
    low: float
    high: float
    values: list[float] = Field(min_length=1)

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of one value or more."""
        return cls(median=median(values), low=min(values), high=max(values), values=list(values))


class Throughput(ResultPart):
    """A throughput with its cost."""

    name: str
    messages: int
    """Messages of one measurement, or candidates, receipts, moves or events."""
    rate: Spread
    """Messages per second."""
    cpu: dict[str, Spread]
    """Microseconds of CPU per message, by process. `all` is their sum."""
    wal: Spread | None
    """Bytes of PostgreSQL's write-ahead log per message."""
    commits: Spread | None
    """Committed transactions of the whole command, per message."""
    dead_tuples: Spread | None
    """Rows that updates and deletes of the whole command left dead, per message."""
    other_cores: Spread
    """Cores that other processes of the machine used."""


class Line(ResultPart):
    """A line of the table of measures."""

    measure: str
    """The formula of a ratio, or the name of a figure."""
    value: Spread | None
    """The ratio or the figure; null if it could not be measured."""
    unit: str
    """Unit of the value; empty if it is a ratio."""
    figure: str
    """The dividend, as it is printed."""
    beside: str
    """The divisor, as it is printed, or what the figure belongs to."""
    target: str
    """The target; empty if there is none."""
    reached: bool | None
    """Whether the median reaches the target; null if there is none."""


class DatabaseResult(ResultPart):
    """The figures of one kind of database."""

    database: str
    settings: dict[str, str]
    """Settings that decide whether a commit is durable."""
    throughputs: list[Throughput]
    lines: list[Line]
    warnings: list[str]
    """Measurements during which other processes used the machine."""


class Sizes(ResultPart):
    """The size of each part."""

    rounds: int
    """Rounds of the pipeline, its variants and its floors."""
    pipeline: int
    """Messages of each run in a round."""
    single: int
    """Messages of the run with one message per task."""
    rate: int
    """Rate of the gateway in the run with a rate, in messages per second."""
    largest: int
    """Messages of the largest run."""
    judging: int
    """Candidates."""
    rollups: list[tuple[int, int]]
    """New and old engagement events of each timing, in ascending order of the old ones."""
    receipts: int
    """Messages with a receipt."""
    page_calls: int
    """Calls of each page and API path."""


class BenchmarkResult(ResultPart):
    """All figures of `make bench`, and the conditions that they were measured under."""

    version: Literal[2]
    """Version of this format. It changes when a key changes its meaning or goes."""
    made_at: str
    seconds: float
    """Duration of the benchmark."""
    machine: dict[str, str]
    """The machine, its load before the benchmark, and the versions of the software."""
    workers: int
    """Worker processes."""
    batch_size: int
    """Messages per task."""
    sizes: Sizes
    databases: list[DatabaseResult]

    @property
    def warnings(self) -> list[str]:
        """The warnings of all databases."""
        return [
            f"{DATABASES[measured.database]}, {warning}"
            for measured in self.databases
            for warning in measured.warnings
        ]


@dataclass(frozen=True)
class Measure:
    """A measure of the table, and its target.

    Attributes:
        name: the formula of a ratio, or the name of a figure.
        comparison: a key of `COMPARISONS`, if the measure has a target.
        target: the value that it is compared with.
        unit: unit of the value; without a unit, the value is a ratio.
    """

    name: str
    comparison: str = ""
    target: float = 0.0
    unit: str = ""

    def make_line(
        self, values: Sequence[float], figure: str, beside: str = "", *, detail: str = ""
    ) -> Line:
        """Return the line of the measured values; pass none if nothing could be measured.

        `detail` tells lines of one measure apart.
        """
        value = Spread.of(values) if values else None
        reached = None
        if self.comparison:
            is_reached = COMPARISONS[self.comparison]
            reached = value is not None and is_reached(value.median, self.target)
        return Line(
            measure=f"{self.name}, {detail}" if detail else self.name,
            value=value,
            unit=self.unit,
            figure=figure,
            beside=beside,
            target=f"{self.comparison} {self.target:g}{self.unit}" if self.comparison else "",
            reached=reached,
        )

    def compare_rates(
        self, rates: Sequence[float], others: Sequence[float], *, detail: str = ""
    ) -> Line:
        """Return the line of rates per second of the same rounds, first divided by other."""
        figure, beside = (f"{median(values):,.0f}/s" for values in (rates, others))
        ratios = [rate / other for rate, other in zip(rates, others, strict=True)]
        return self.make_line(ratios, figure, beside, detail=detail)

    def compare_seconds(
        self, ours: Sequence[float], theirs: Sequence[float], *, detail: str
    ) -> Line:
        """Return the line of durations of the same turns, the other divided by the first."""
        figure, beside = (f"{median(values) * 1e3:,.2f} ms" for values in (ours, theirs))
        ratios = [other / own for own, other in zip(ours, theirs, strict=True)]
        return self.make_line(ratios, figure, beside, detail=detail)


def read_result(file: Path) -> BenchmarkResult:
    """Read a file that the benchmark wrote.

    Raises:
        InvalidResult: with one sentence that says what was wrong and what was expected.
    """
    try:
        return BenchmarkResult.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InvalidResult(f"{file}: {error.strerror}; expected a file of `make bench`") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        where = f"{file}: {key}" if key else str(file)
        raise InvalidResult(
            f"{where}: {first['msg']}; expected a file that this version of `make bench` wrote"
        ) from error
