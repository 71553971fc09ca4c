"""Results of the benchmark, as small as they may be."""

from collections.abc import Mapping, Sequence

from benchmarks.context import QUICK_SIZES
from benchmarks.results import (
    FORMAT_VERSION,
    BenchmarkResult,
    DatabaseResult,
    Measure,
    Sizes,
    Spread,
    Throughput,
)


def make_bench_result(
    *,
    rates: Sequence[float] = (30_000.0, 31_000.0, 29_000.0),
    cpu: Mapping[str, Sequence[float]] = {"driver": (3.0,), "all": (3.0,)},
    ratios: Sequence[float] = (0.5, 0.52, 0.48),
    database: str = "postgresql",
    sizes: Sizes = QUICK_SIZES,
    machine: Mapping[str, str] = {"cores": "2"},
    warnings: Sequence[str] = (),
) -> BenchmarkResult:
    """Return a result with one throughput, `pipeline`, and one measure, `pipeline ÷ floor`."""
    throughput = Throughput(
        name="pipeline",
        messages=6_000,
        rate=Spread.of(rates),
        cpu={role: Spread.of(used) for role, used in cpu.items()},
        wal=Spread.of([1_379.0]),
        commits=None,
        dead_tuples=None,
        other_cores=Spread.of([0.02]),
    )
    line = Measure("pipeline ÷ floor", "≥", 0.5).make_line(ratios, "30,000/s", "60,000/s")
    measured = DatabaseResult(
        database=database,
        settings={"fsync": "on"},
        throughputs=[throughput],
        lines=[line],
        warnings=list(warnings),
    )
    return BenchmarkResult(
        version=FORMAT_VERSION,
        made_at="2026-12-01T03:00:00+00:00",
        seconds=50.0,
        machine=dict(machine),
        workers=2,
        batch_size=10_000,
        sizes=sizes,
        databases=[measured],
    )
