"""Context of a benchmark: the database under measurement, and the figures measured so far."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.meter import ROLES, Cost, Meter
from benchmarks.results import Line, Sizes, Spread, Throughput

FULL_SIZES = Sizes(
    rounds=5,
    pipeline=200_000,
    single=200,
    rate=15_000,
    largest=1_000_000,
    judging=100_000,
    rollups=[(250_000, 250_000), (250_000, 2_500_000)],
    receipts=400_000,
    page_calls=40,
)
QUICK_SIZES = Sizes(
    rounds=1,
    pipeline=6_000,
    single=4,
    rate=4_000,
    largest=8_000,
    judging=2_000,
    rollups=[(2_000, 2_000), (2_000, 10_000)],
    receipts=4_000,
    page_calls=1,
)

CAMPAIGN_ID = 1
"""The first campaign of a new database."""

MAX_OTHER_CORES = 0.15
"""Cores that other processes may use, those of the kernel included, before a figure is doubtful."""

MIN_LOAD_SECONDS = 0.5
"""Shorter measurements don't show the load: the machine counts its CPU time in steps of 10 ms."""


CreateDatabase = Callable[[], AbstractContextManager[str]]
"""Yields the URL of an empty database, which exists while the block runs."""


@dataclass(frozen=True, kw_only=True)
class DatabaseBenchmark:
    """The benchmark of one kind of database: what its parts need, and what they measured.

    Attributes:
        settings: those of the database that decide whether a commit is durable.
        folder: for temporary files.
        warnings: measurements during which other processes used the machine.
    """

    database: str
    settings: Mapping[str, str]
    sizes: Sizes
    folder: Path
    create_database: CreateDatabase
    meter: Meter
    throughputs: list[Throughput] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @contextmanager
    def measure(self, name: str, costs: list[Cost]) -> Iterator[None]:
        """Add the cost of a block in this process to a list."""
        with self.meter.measure(costs):
            yield
        self.check_load(name, costs[-1])

    def check_load(self, name: str, cost: Cost) -> None:
        """Warn if other processes used the machine during a measurement."""
        if cost.seconds >= MIN_LOAD_SECONDS and cost.other_cores > MAX_OTHER_CORES:
            self.warnings.append(f"{name}: other processes used {cost.other_cores:.2f} cores")
            self.log(f"warning: {self.warnings[-1]}")

    def add_throughput(self, name: str, messages: int, costs: Sequence[Cost]) -> list[float]:
        """Add the throughput of one measurement or more, log it, and return its rates."""

        def spread(values: Sequence[float | None]) -> Spread | None:
            known = [value / messages for value in values if value is not None]
            return Spread.of(known) if known else None

        rates = [messages / cost.seconds for cost in costs]
        roles = [role for role in ROLES if any(cost.cpu.get(role) for cost in costs)]
        micros = {role: [cost.cpu.get(role, 0.0) * 1e6 for cost in costs] for role in roles}
        micros["all"] = [sum(values) for values in zip(*micros.values(), strict=True)]
        added = Throughput(
            name=name,
            messages=messages,
            rate=Spread.of(rates),
            cpu={
                role: Spread.of([value / messages for value in values])
                for role, values in micros.items()
            },
            wal=spread([cost.wal for cost in costs]),
            commits=spread([cost.commits for cost in costs]),
            dead_tuples=spread([cost.dead_tuples for cost in costs]),
            other_cores=Spread.of([cost.other_cores for cost in costs]),
        )
        self.throughputs.append(added)
        cpu = added.cpu["all"].median
        self.log(f"{name}: {added.rate.median:,.0f}/s, {cpu:.1f} µs CPU per message")
        return rates

    def add_line(self, line: Line) -> None:
        """Add a line to the table, and log it."""
        self.lines.append(line)
        median = "" if line.value is None else f"{line.value.median:,.2f}{line.unit}"
        cells = (line.measure, line.figure, line.beside, median, line.target)
        self.log("  ".join(cell for cell in cells if cell))

    def log(self, text: str) -> None:
        """Print progress to stderr, with the time and the database."""
        print(f"{time.strftime('%H:%M:%S')} {self.database}: {text}", file=sys.stderr, flush=True)
