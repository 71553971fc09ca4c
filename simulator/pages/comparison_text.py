"""A comparison of runs as people read it."""

from collections.abc import Iterator, Sequence

from simulator.figures import Unit, format_figure
from simulator.results.archive import StoredResult
from simulator.results.result import RunState
from simulator.results.run_comparison import (
    LATENCY_RULE,
    MIN_NOISE_SHARE,
    THROUGHPUT_RULE,
    ChangeVerdict,
    FigureChange,
    RunComparison,
)
from tracker.text import pluralize

MAX_NAMED_DIFFERENCES = 12
"""Ways in which two runs differ that are named."""

MAX_NAMED_REGRESSIONS = 8
"""Regressions that are named in the last word; the table has all."""

TABLE_HEADER = ("figure", "before", "after", "change", "noise", "verdict")

VERDICT_MARKS = {
    ChangeVerdict.WORSE: "✘ worse",
    ChangeVerdict.BETTER: "✔ better",
    ChangeVerdict.CHANGED: "≠ changed",
}


def format_run_comparison(contrast: RunComparison, *, everything: bool = False) -> str:
    """Several lines, without a line end after the last: the figures that are judged and those that
    changed; ``everything`` is all that have a value."""
    return "\n".join(_lines(contrast, everything))


def _lines(contrast: RunComparison, everything: bool) -> Iterator[str]:
    yield f"before   {_format_side(contrast.before)}"
    yield f"after    {_format_side(contrast.after)}"
    for each in contrast.differences[:MAX_NAMED_DIFFERENCES]:
        yield f"differs  {each.what}: {each.before or '-'} → {each.after or '-'}"
    more = len(contrast.differences) - MAX_NAMED_DIFFERENCES
    if more > 0:
        yield f"         and in {more:,} more ways: see --format json, or --html FILE"
    yield ""
    rows: list[tuple[str, ...]] = [TABLE_HEADER]
    for change in contrast.changes:
        if (change.before or change.after) if everything else is_shown_by_default(change):
            rows.append(format_change(change))
    widths = [max(len(row[place]) for row in rows) for place in range(len(TABLE_HEADER))]
    for row in rows:
        placed = (
            cell.ljust(width) if place in (0, 5) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(placed).rstrip()
    yield ""
    yield describe_noise(contrast)
    yield describe_verdict(contrast)


def _format_side(runs: Sequence[StoredResult]) -> str:
    summary = runs[0].summary
    repeated = f", median of {len(runs)} runs" if len(runs) > 1 else ""
    return (
        f"{runs[0].name} · {summary.scenario} · seed {summary.seed}"
        f" · {summary.started_at:%Y-%m-%d %H:%M:%S} UTC{repeated}"
        + "".join(f" · {each}" for each in find_caveats(runs[0]))
    )


def find_caveats(run: StoredResult) -> Iterator[str]:
    """What speaks against comparing with a run at all."""
    if run.summary.state is not RunState.COMPLETE:
        yield f"partial: {run.summary.state}"
    if not run.summary.verdict.is_proven:
        yield "failed: not as predicted, or an invariant is broken"


def is_shown_by_default(change: FigureChange) -> bool:
    """Whether a change is shown to somebody who has not asked for all: what is judged, and counts
    that changed."""
    if change.unit is Unit.SHARE:
        return False  # the count says it
    if change.verdict in VERDICT_MARKS:
        return True
    judged = change.verdict is ChangeVerdict.SAME
    return judged and change.unit in (Unit.SECONDS, Unit.RATE) and bool(change.before)


def format_change(change: FigureChange) -> tuple[str, ...]:
    """A change as a row below :data:`TABLE_HEADER`."""
    difference = change.difference
    by = "-" if difference is None else _format_signed(difference, change.unit)
    if change.share is not None and change.unit is not Unit.SHARE:
        by += f" ({100 * change.share:+.0f} %)"
    band = "" if change.band is None else f"± {format_figure(change.band, change.unit)}"
    return (
        change.figure,
        format_figure(change.before, change.unit),
        format_figure(change.after, change.unit),
        by,
        band,
        VERDICT_MARKS.get(change.verdict, ""),
    )


def _format_signed(difference: float, unit: Unit) -> str:
    text = format_figure(abs(difference), unit)
    return f"{'-' if difference < 0 else '+'}{text}" if difference else text


def describe_noise(contrast: RunComparison) -> str:
    """Where the noise bands come from."""
    single = [side for side in (contrast.before, contrast.after) if len(side) == 1]
    if len(single) == 2:
        return (
            f"Noise: the usual one of single runs, {THROUGHPUT_RULE.share:.0%} of a throughput,"
            f" {LATENCY_RULE.share:.0%} of a latency and {LATENCY_RULE.min_noise:g} s at least;"
            " simulate --repeat N measures it"
        )
    return (
        "Noise: how far the repeated runs lie apart, but at least"
        f" {MIN_NOISE_SHARE * THROUGHPUT_RULE.share:.1%} of a throughput, {MIN_NOISE_SHARE * LATENCY_RULE.share:.1%} of a latency or"
        f" {MIN_NOISE_SHARE * LATENCY_RULE.min_noise:g} s"
    )


def describe_verdict(contrast: RunComparison) -> str:
    """The last word: whether anything is worse."""
    if contrast.unjudged_reason is not None:
        return f"! nothing is judged: {contrast.unjudged_reason}"
    worse = [change.figure for change in contrast.regressions]
    if not worse:
        return "✔ no regression"
    more = (
        f" and {len(worse) - MAX_NAMED_REGRESSIONS:,} more"
        if len(worse) > MAX_NAMED_REGRESSIONS
        else ""
    )
    return (
        f"✘ {pluralize(len(worse), 'regression')}: {', '.join(worse[:MAX_NAMED_REGRESSIONS])}{more}"
    )
