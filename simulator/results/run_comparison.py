"""Two runs held against each other, figure by figure: what changed, and whether that is more than
noise.

A run that was repeated (``simulate --repeat``) stands for all of its repetitions: its value is
their median, and how far they lie apart is its noise. Of a single run the noise is not known, and
a usual one is assumed.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any

from simulator import figures
from simulator.figures import LATENCY_SPANS, MESSAGE_COUNTS, THROUGHPUT, Unit, split_figure_name
from simulator.results.archive import RunSummary, StoredResult
from simulator.results.result import RunState

COMPARISON_VERSION = 1
"""Version of the JSON comparison. It changes when a key changes its meaning or goes."""


class ChangeVerdict(StrEnum):
    """What a change means."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    CONTEXT = "context"


@dataclass(frozen=True)
class FigureRule:
    """How a figure is judged: ``direction`` is 1 if more is better, -1 if less is, 0 if neither. The
    usual noise is a ``share`` of it, and ``min_noise`` in its unit."""

    direction: int
    share: float = 0.0
    min_noise: float = 0.0

    def default_noise_band(self, value: float) -> float:
        return max(self.share * abs(value), self.min_noise)


THROUGHPUT_RULE = FigureRule(direction=1, share=0.15)
LATENCY_RULE = FigureRule(direction=-1, share=0.30, min_noise=0.5)
"""Of a single run; in real seconds."""

EXACT_RULE, MORE_IS_BETTER, LESS_IS_BETTER = (
    FigureRule(direction=0),
    FigureRule(direction=1),
    FigureRule(direction=-1),
)
"""What follows from the seed has no noise."""

JUDGED_PERCENTILES = ("p50", "p90", "p95", "p99")
"""Beyond them a few messages decide. Those are shown, and not judged."""

MIN_NOISE_SHARE = 0.25
"""Share of the usual band that the noise of repeated runs comes to at least: a handful of runs
that happen to agree does not mean that there is none."""


def find_rule(figure: str) -> FigureRule | None:
    """How a figure of a run or of a campaign is judged; None where it is only shown."""
    if figure == THROUGHPUT:
        return THROUGHPUT_RULE
    span, _, percentile = figure.partition(".")
    if span in LATENCY_SPANS:
        return LATENCY_RULE if percentile in JUDGED_PERCENTILES else None
    count = figure.removesuffix(".share")
    if count.startswith("not_sent.system_error"):
        return LESS_IS_BETTER
    if count in ("sent", "delivered"):
        return MORE_IS_BETTER
    return EXACT_RULE if count in MESSAGE_COUNTS else None


@dataclass(frozen=True, kw_only=True)
class FigureChange:
    """A figure before and after; ``band`` is how much it may change by chance, None if nobody
    knows."""

    figure: str
    unit: Unit
    before: float | None
    after: float | None
    band: float | None
    verdict: ChangeVerdict

    @property
    def difference(self) -> float | None:
        if self.before is None or self.after is None:
            return None
        return self.after - self.before

    @property
    def share(self) -> float | None:
        """The difference as a share of what it was."""
        return self.difference / self.before if self.difference and self.before else None

    def as_json(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "unit": self.unit.value,
            "before": self.before,
            "after": self.after,
            "difference": self.difference,
            "noise_band": self.band,
            "verdict": self.verdict.value,
        }


@dataclass(frozen=True)
class RunDifference:
    """Something that two runs were not made alike in."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Two runs, each with its repetitions behind it, and all that changed from one to the other."""

    before: Sequence[StoredResult]
    after: Sequence[StoredResult]
    changes: tuple[FigureChange, ...]
    differences: tuple[RunDifference, ...]

    @property
    def unjudged_reason(self) -> str | None:
        """Why nothing is judged; None if it is."""
        for side in (self.before, self.after):
            if side[0].summary.state is not RunState.COMPLETE:
                return f"{side[0].name} is partial ({side[0].summary.state})"
        return None

    @property
    def regressions(self) -> list[FigureChange]:
        """What is worse by more than noise."""
        if self.unjudged_reason is not None:
            return []
        return [change for change in self.changes if change.verdict is ChangeVerdict.WORSE]

    def as_json(self) -> dict[str, Any]:
        return {
            "version": COMPARISON_VERSION,
            "before": [each.summary.run for each in self.before],
            "after": [each.summary.run for each in self.after],
            "unjudged": self.unjudged_reason,
            "differences": [vars(each) for each in self.differences],
            "regressions": [each.figure for each in self.regressions],
            "changes": [each.as_json() for each in self.changes],
        }


def compare_runs(before: Sequence[StoredResult], after: Sequence[StoredResult]) -> RunComparison:
    """Hold a run against an earlier one; each comes with the runs that repeat it, if any. Two that
    repeat each other are held against each other alone."""
    if {each.name for each in before} & {each.name for each in after}:
        before, after = before[:1], after[:1]
    sides = [_campaign_names(before[0]), _campaign_names(after[0])]
    # A single campaign's figures are the run's, and one that is in one run only has nothing to be
    # held against.
    both = [name for name in sides[0] if name in sides[1]] if max(map(len, sides)) > 1 else []
    return RunComparison(
        before=before,
        after=after,
        changes=tuple(
            _compare_figure(figure, split_figure_name(figure, both)[1], unit, before, after)
            for figure, unit in figures.list_figure_units(both).items()
        ),
        differences=tuple(_find_differences(before[0].summary, after[0].summary)),
    )


def _campaign_names(kept: StoredResult) -> list[str]:
    return [each.campaign for each in kept.summary.campaigns]


def _compare_figure(
    figure: str,
    name: str,
    unit: Unit,
    before: Sequence[StoredResult],
    after: Sequence[StoredResult],
) -> FigureChange:
    values = [_figure_values(figure, side) for side in (before, after)]
    was, now = (median(each) if each else None for each in values)
    rule = find_rule(name)
    band = None
    if rule is not None:
        # A latency is in the run's own time.
        speed = before[0].summary.speed if rule is LATENCY_RULE else 1.0
        band = _noise_band(rule, speed, was, values)
    return FigureChange(
        figure=figure,
        unit=unit,
        before=was,
        after=now,
        band=band,
        verdict=_judge_change(rule, band, was, now),
    )


def _figure_values(figure: str, runs: Sequence[StoredResult]) -> list[float]:
    found = (run.summary.figures.get(figure) for run in runs)
    return [value for value in found if value is not None]


def _noise_band(
    rule: FigureRule, speed: float, was: float | None, values: Sequence[list[float]]
) -> float:
    usual = rule.default_noise_band((was or 0.0) / speed) * speed
    spreads = [max(each) - min(each) for each in values if len(each) > 1]
    return max(*spreads, MIN_NOISE_SHARE * usual) if spreads else usual


def _judge_change(
    rule: FigureRule | None, band: float | None, was: float | None, now: float | None
) -> ChangeVerdict:
    if rule is None or band is None:
        return ChangeVerdict.CONTEXT
    if was is None and now is None:
        return ChangeVerdict.SAME
    if was is None or now is None:
        # Where there is no throughput and no latency, nothing gets anywhere.
        return ChangeVerdict.WORSE if now is None else ChangeVerdict.BETTER
    if abs(now - was) <= band:
        return ChangeVerdict.SAME
    if not rule.direction:
        return ChangeVerdict.CHANGED
    return ChangeVerdict.BETTER if (now - was) * rule.direction > 0 else ChangeVerdict.WORSE


COMPARED_SETTINGS = ("scenario", "seed", "state", "speed", "workers", "batch_size", "database")
COMPARED_TABLES = ("durability", "machine", "versions")


def _find_differences(before: RunSummary, after: RunSummary) -> Iterator[RunDifference]:
    for what in COMPARED_SETTINGS:
        said = [_format_detail(getattr(each, what)) for each in (before, after)]
        if said[0] != said[1]:
            yield RunDifference(what.replace("_", " "), *said)
    for table in COMPARED_TABLES:
        old, new = getattr(before, table), getattr(after, table)
        for what in dict.fromkeys((*old, *new)):
            if old.get(what) != new.get(what) and what not in VOLATILE_DETAILS:
                yield RunDifference(
                    f"{table}: {what}", _format_detail(old.get(what)), _format_detail(new.get(what))
                )
    for line in _definition_changes(before.definition, after.definition):
        mark, text = line[0], line[1:].strip()
        if text:
            yield RunDifference("scenario file", *((text, "") if mark == "-" else ("", text)))


VOLATILE_DETAILS = frozenset({"load before"})
"""What is never twice the same."""


def _definition_changes(before: str, after: str) -> list[str]:
    """The lines of the scenario file that were taken out (``-``) or came in (``+``)."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in list(lines)[2:] if not line.startswith("@@")]


def _format_detail(value: object) -> str:
    return "-" if value is None else str(value)
