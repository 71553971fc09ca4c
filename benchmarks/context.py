"""What the parts of a benchmark share: the database that they measure on, and what they measured."""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measures import Json, TableLine


@dataclass(frozen=True, kw_only=True)
class BenchmarkSizes:
    """How much each part measures: messages, unless it says otherwise."""

    rounds: int
    """Rounds of the pipeline and its variants, in turns; the medians are shown."""
    pipeline: int
    single: int
    """Messages of the run with one message a task."""
    largest: int
    judging: int
    """Candidates."""
    rollups: tuple[tuple[int, int], ...]
    """New and old engagement events of each timing; the old ones never become fewer."""
    receipts: int
    page_calls: int
    """Calls of each page and API path."""

    def as_json(self) -> Json:
        """Return the sizes as they stand in bench.json."""
        return {
            "rounds": self.rounds,
            "pipeline": self.pipeline,
            "single": self.single,
            "reports": [self.pipeline, self.largest],
            "judging": self.judging,
            "rollups": self.rollups,
            "receipts": self.receipts,
            "page_calls": self.page_calls,
        }


FULL_SIZES = BenchmarkSizes(
    rounds=3,
    pipeline=200_000,
    single=1_000,
    largest=1_000_000,
    judging=100_000,
    rollups=((1_000_000, 1_000_000), (1_000_000, 10_000_000)),
    receipts=1_000_000,
    page_calls=40,
)
QUICK_SIZES = BenchmarkSizes(
    rounds=1,
    pipeline=20_000,
    single=20,
    largest=30_000,
    judging=10_000,
    rollups=((10_000, 10_000), (10_000, 50_000)),
    receipts=20_000,
    page_calls=5,
)


CAMPAIGN_ID = 1
"""The first campaign of a new database."""


@dataclass(frozen=True, kw_only=True)
class DatabaseFigures:
    """What was measured on one kind of database, in the order of measurement."""

    database: str
    settings: Mapping[str, str]
    """The database's durability and version."""
    values: dict[str, Json] = field(default_factory=dict)
    reports: list[Json] = field(default_factory=list)
    """The timings of the report, on a smaller and on a larger run."""
    lines: list[TableLine] = field(default_factory=list)

    def as_json(self) -> Json:
        """Return the values and the table's lines as they stand in bench.json."""
        return {
            "database": self.database,
            "settings": self.settings,
            "reports": self.reports,
            **self.values,
            "lines": [line.as_json(self.database) for line in self.lines],
        }


@dataclass(frozen=True, kw_only=True)
class DatabaseBenchmark:
    """The benchmark of one kind of database: what its parts need, and what they measured.

    Attributes:
        folder: for temporary files.
        create_database: yields the URL of an empty database, which exists while the block runs.
    """

    figures: DatabaseFigures
    sizes: BenchmarkSizes
    folder: Path
    create_database: Callable[[], AbstractContextManager[str]]

    def record(self, name: str, value: Json) -> None:
        """Record a value of bench.json."""
        self.figures.values[name] = value

    def add_line(self, line: TableLine) -> None:
        """Add a line to the table, and log it."""
        self.figures.lines.append(line)
        beside = f" ({line.beside})" if line.beside else ""
        ratio = "" if line.ratio is None else f", ratio {line.ratio:,.2f}"
        self.log(f"{line.measure}: {line.figure}{beside}{ratio}")

    def log(self, text: str) -> None:
        """Print progress to stderr, with the time and the database."""
        clock, database = time.strftime("%H:%M:%S"), self.figures.database
        print(f"{clock} {database}: {text}", file=sys.stderr, flush=True)
