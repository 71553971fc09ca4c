"""List the figures that changed between two files of `make bench`, beyond their spread.

A figure has changed if the values of one file are all above those of the other. A figure that was
measured once has no spread; it has changed if it differs by more than 10 %.
Exit codes: 0 compared, 2 a file can't be compared.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.command import make_parser, run_command
from benchmarks.results import BenchmarkResult, InvalidResult, Spread, read_result
from benchmarks.tables import describe_load
from tracker.output.tables import Row, RowFormat, format_rows

SINGLE_TOLERANCE = 0.1
"""Share by which a figure that was measured once may differ without having changed."""


def main() -> None:
    """Compare the two files and print a table."""
    parser = make_parser("benchmarks.compare", __doc__)
    parser.add_argument("old", type=Path, metavar="OLD", help="a file of `make bench`")
    parser.add_argument("new", type=Path, metavar="NEW", help="a later one")
    options = parser.parse_args()
    print(compare_results(read_result(options.old), read_result(options.new)))


def compare_results(old: BenchmarkResult, new: BenchmarkResult) -> str:
    """Return a table of the figures that changed, and what else makes a difference.

    Raises:
        InvalidResult: if the two have no figure in common, or differ in their sizes.
    """
    # The number of rounds only makes a spread wider or narrower.
    if old.sizes.model_copy(update={"rounds": new.sizes.rounds}) != new.sizes:
        raise InvalidResult(
            "OLD and NEW were measured in different sizes; expected two full or two quick results"
        )
    before, after = dict(_list_figures(old)), dict(_list_figures(new))
    common = [name for name in before if name in after]
    if not common:
        raise InvalidResult("OLD and NEW have no database in common; expected at least one")
    rows = [
        _compare_figure(*name, before[name], after[name])
        for name in common
        if has_changed(before[name], after[name])
    ]
    changed = f"{len(rows)} of {len(common)} figures changed beyond the spread"
    table = format_rows(rows, list(rows[0]), RowFormat.TABLE) if rows else ""
    parts = [table, changed if rows else "no difference beyond the spread"]
    return "\n".join(filter(None, [*parts, *_list_notes(old, new, before, after)]))


def has_changed(old: Spread, new: Spread) -> bool:
    """Return True if two figures differ by more than their spread."""
    (old_low, old_high), (new_low, new_high) = map(_find_range, (old, new))
    return new_low > old_high or new_high < old_low


def _find_range(spread: Spread) -> tuple[float, float]:
    if len(spread.values) > 1:
        return spread.low, spread.high
    margin = abs(spread.median) * SINGLE_TOLERANCE / 2
    return spread.median - margin, spread.median + margin


def _list_figures(result: BenchmarkResult) -> Iterator[tuple[tuple[str, str], Spread]]:
    """Yield database and name of each figure, with its values."""
    for measured in result.databases:
        for throughput in measured.throughputs:
            spreads: Mapping[str, Spread | None] = {
                "messages per second": throughput.rate,
                **{f"µs of CPU, {role}": used for role, used in throughput.cpu.items()},
                "WAL bytes": throughput.wal,
                "commits": throughput.commits,
                "dead tuples": throughput.dead_tuples,
            }
            for figure, spread in spreads.items():
                if spread is not None:
                    yield (measured.database, f"{throughput.name}: {figure}"), spread
        for line in measured.lines:
            if line.value is not None:
                yield (measured.database, line.measure), line.value


def _compare_figure(database: str, name: str, old: Spread, new: Spread) -> Row:
    change = f"{new.median / old.median - 1:+.1%}" if old.median else ""
    return {
        "database": database,
        "figure": name,
        "old": _format_spread(old),
        "new": _format_spread(new),
        "change": change,
    }


def _format_spread(spread: Spread) -> str:
    values = (spread.median, spread.low, spread.high)
    median, low, high = (f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}" for value in values)
    return f"{median} ({low} to {high})" if len(spread.values) > 1 else median


def _list_notes(
    old: BenchmarkResult,
    new: BenchmarkResult,
    before: Mapping[tuple[str, str], Spread],
    after: Mapping[tuple[str, str], Spread],
) -> Iterator[str]:
    """Yield the differences that make two results hard to compare."""
    for label, names in (("OLD", before.keys() - after), ("NEW", after.keys() - before)):
        if names:
            listed = "; ".join(f"{database}, {name}" for database, name in sorted(names))
            yield f"only in {label}: {listed}"
    for key in sorted(old.machine.keys() | new.machine):
        values = [result.machine.get(key, "unknown") for result in (old, new)]
        if values[0] != values[1]:
            yield f"machine: {key} was {values[0]}, and is {values[1]}"
    for label, result in (("OLD", old), ("NEW", new)):
        if result.warnings:
            yield f"{label}: {describe_load(result.warnings)}"


if __name__ == "__main__":
    run_command(main, "bench-compare")
