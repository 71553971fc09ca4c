"""Context of a benchmark: the database under measurement, and the figures measured so far."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from benchmarks.measures import Json, TableLine, format_line


class BenchmarkSizes(TypedDict):
    """The size of each part, as it stands in bench.json."""

    rounds: int
    """Rounds of the pipeline and its variants; the medians are shown."""
    pipeline: int
    """Messages of each run in a round."""
    single: int
    """Messages of the run with one message a task."""
    largest: int
    """Messages of the largest run."""
    judging: int
    """Candidates."""
    rollups: list[tuple[int, int]]
    """New and old engagement events of each timing; the old events only become more."""
    receipts: int
    """Messages with a receipt."""
    page_calls: int
    """Calls of each page and API path."""


FULL_SIZES = BenchmarkSizes(
    rounds=3,
    pipeline=200_000,
    single=1_000,
    largest=1_000_000,
    judging=100_000,
    rollups=[(1_000_000, 1_000_000), (1_000_000, 10_000_000)],
    receipts=1_000_000,
    page_calls=40,
)
QUICK_SIZES = BenchmarkSizes(
    rounds=1,
    pipeline=6_000,
    single=10,
    largest=8_000,
    judging=2_000,
    rollups=[(2_000, 2_000), (2_000, 10_000)],
    receipts=4_000,
    page_calls=2,
)

CAMPAIGN_ID = 1
"""The first campaign of a new database."""


@dataclass(frozen=True, kw_only=True)
class DatabaseBenchmark:
    """The benchmark of one kind of database: what its parts need, and what they measured.

    Attributes:
        folder: for temporary files.
        create_database: yields the URL of an empty database, which exists while the block runs.
        figures: what was measured, as it stands in bench.json.
        reports: timings of the report, on a smaller and on a larger run.
        lines: lines of the table.
    """

    database: str
    sizes: BenchmarkSizes
    folder: Path
    create_database: Callable[[], AbstractContextManager[str]]
    figures: dict[str, Json] = field(default_factory=dict)
    reports: list[Json] = field(default_factory=list)
    lines: list[TableLine] = field(default_factory=list)

    def add_line(self, line: TableLine) -> None:
        """Add a line to the table, and log it."""
        self.lines.append({"database": self.database, **line})
        self.log("  ".join(str(cell) for cell in format_line(line).values() if cell))

    def log(self, text: str) -> None:
        """Print progress to stderr, with the time and the database."""
        print(f"{time.strftime('%H:%M:%S')} {self.database}: {text}", file=sys.stderr, flush=True)
