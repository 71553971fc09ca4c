"""A run comparison as text."""

from collections.abc import Iterator, Sequence

from simulator.figures import Unit, format_figure
from simulator.results.archive.comparison import (
    COUNTS,
    ENOUGH_RUNS,
    LATENCY_RULE,
    MIN_NOISE_SHARE,
    THROUGHPUT_RULE,
    ChangeVerdict,
    FigureChange,
    RunComparison,
)
from simulator.results.archive.store import StoredResult
from simulator.results.observations import RunState, describe_distortion
from tracker.output.tables import format_table
from tracker.text import pluralize

MAX_NAMED_DIFFERENCES = 12
"""Different conditions that the text names."""

MAX_NAMED_FIGURES = 8
"""Figures that a sentence names; the table has all."""

TABLE_HEADER = ("figure", "before", "after", "change", "noise", "verdict")

NUMBER_COLUMNS = range(1, 5)
"""Positions of the columns that are aligned to the right."""

VERDICT_MARKS = {
    ChangeVerdict.WORSE: "✘ worse",
    ChangeVerdict.BETTER: "✔ better",
    ChangeVerdict.CHANGED: "≠ changed",
    ChangeVerdict.NOT_COMPARABLE: "not comparable",
}


def format_run_comparison(comparison: RunComparison, *, show_all: bool = False) -> str:
    """Return a run comparison as several lines, without a line end after the last.

    It has the figures that are judged or changed; with `show_all`, every figure with a value.
    """
    return "\n".join(_format_lines(comparison, show_all))


def _format_lines(comparison: RunComparison, show_all: bool) -> Iterator[str]:
    for side, runs in (("before", comparison.before), ("after", comparison.after)):
        caveats = "".join(f" · {caveat}" for caveat in find_caveats(runs[0]))
        yield f"{side:<9}{describe_side(runs)}{caveats}"
    for difference in comparison.differences[:MAX_NAMED_DIFFERENCES]:
        values = f"{difference.before or '-'} → {difference.after or '-'}"
        yield f"differs  {difference.what}: {values}"
    unnamed = len(comparison.differences) - MAX_NAMED_DIFFERENCES
    if unnamed > 0:
        yield f"         and {unnamed:,} more: see --format json, or --html FILE"
    for caveat in find_pair_caveats(comparison):
        yield f"         {caveat}"
    yield ""
    yield _format_figures(comparison, show_all)
    yield ""
    yield describe_noise(comparison)
    yield from describe_uncertainty(comparison)
    yield describe_verdict(comparison)


def _format_figures(comparison: RunComparison, show_all: bool) -> str:
    rows = [
        format_change(change)
        for change in comparison.changes
        if ((change.before or change.after) if show_all else is_shown_by_default(change))
    ]
    return format_table(TABLE_HEADER, rows, right_aligned=NUMBER_COLUMNS)


def describe_side(runs: Sequence[StoredResult]) -> str:
    """Return one line about a side of a comparison: its run, scenario, seed, state and time."""
    summary = runs[0].summary
    repeated = f", median of {len(runs)} runs" if len(runs) > 1 else ""
    run = f"run {summary.run}"
    name = run if runs[0].name == run else f"{runs[0].name} · {run}"
    return (
        f"{name} · {summary.scenario} · seed {summary.seed} · {summary.state}"
        f" · {summary.started_at:%Y-%m-%d %H:%M:%S} UTC{repeated}"
    )


def find_caveats(run: StoredResult) -> Iterator[str]:
    """Yield the reasons why a run should not be compared with others."""
    if run.summary.state is not RunState.FINISHED:
        yield f"partial: {run.summary.state}"
    yield from describe_distortion(run.summary.not_comparable)
    if not run.summary.verdict.is_proven:
        yield "failed: it differs from its prediction, or an invariant is broken"


def find_pair_caveats(comparison: RunComparison) -> Iterator[str]:
    """Yield why figures of these two runs aren't compared, though each run is sound."""
    cause = comparison.incomparable_groups.get(COUNTS)
    if cause is not None and comparison.unjudged_reason is None:
        yield f"counts not comparable: {cause}"


def is_shown_by_default(change: FigureChange) -> bool:
    """Return whether a table without all figures has this one: it has a verdict, or has changed."""
    if change.unit is Unit.SHARE:
        return False  # the count that it belongs to is shown
    if change.verdict is not ChangeVerdict.NOT_COMPARABLE and change.verdict in VERDICT_MARKS:
        return True
    has_rule = change.verdict in (ChangeVerdict.SAME, ChangeVerdict.NOT_COMPARABLE)
    return has_rule and change.unit in (Unit.SECONDS, Unit.RATE) and bool(change.before)


def format_change(change: FigureChange) -> tuple[str, ...]:
    """Return a change as a row below `TABLE_HEADER`."""
    difference = change.difference
    by = "-" if difference is None else _format_signed(difference, change.unit)
    if change.share is not None and change.unit is not Unit.SHARE:
        by += f" ({100 * change.share:+.0f} %)"
    noise = change.band
    return (
        change.figure,
        format_figure(change.before, change.unit),
        format_figure(change.after, change.unit),
        by,
        "" if noise is None else f"± {format_figure(noise, change.unit)}",
        VERDICT_MARKS.get(change.verdict, ""),
    )


def _format_signed(difference: float, unit: Unit) -> str:
    text = format_figure(abs(difference), unit)
    return f"{'-' if difference < 0 else '+'}{text}" if difference else text


def describe_noise(comparison: RunComparison) -> str:
    """Return a sentence about the source of the noise bands."""
    is_single = len(comparison.before) == 1 and len(comparison.after) == 1
    throughput, latency = THROUGHPUT_RULE.share, LATENCY_RULE.share
    seconds = LATENCY_RULE.min_noise
    if is_single:
        return (
            f"Noise: assumed for single runs, {throughput:.0%} of a throughput, {latency:.0%} of a"
            f" latency and at least {seconds:g} s; simulate --repeat N measures it"
        )
    return (
        "Noise: the spread of the repeated runs, but at least"
        f" {MIN_NOISE_SHARE * throughput:.1%} of a throughput, {MIN_NOISE_SHARE * latency:.1%} of a"
        f" latency or {MIN_NOISE_SHARE * seconds:g} s"
    )


def describe_uncertainty(comparison: RunComparison) -> Iterator[str]:
    """Yield the advice to repeat the runs, if a figure changed by about as much as the noise."""
    if uncertain := [change.figure for change in comparison.uncertain]:
        yield (
            f"Repeat more: {_list_figures(uncertain)} changed by about as much as the noise;"
            f" simulate --repeat {ENOUGH_RUNS} on both sides shows whether it is a change"
        )


def describe_verdict(comparison: RunComparison) -> str:
    """Return the verdict: whether any figure is worse."""
    if comparison.unjudged_reason is not None:
        return f"! not judged: {comparison.unjudged_reason}"
    worse = [change.figure for change in comparison.regressions]
    if not worse:
        ignored = ", ".join(comparison.incomparable_groups)
        return f"✔ no regression{ignored and f'; not compared: {ignored}'}"
    return f"✘ {pluralize(len(worse), 'regression')}: {_list_figures(worse)}"


def _list_figures(figures: Sequence[str]) -> str:
    unnamed = len(figures) - MAX_NAMED_FIGURES
    more = f" and {unnamed:,} more" if unnamed > 0 else ""
    return f"{', '.join(figures[:MAX_NAMED_FIGURES])}{more}"
