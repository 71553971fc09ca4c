"""Compare two runs figure by figure, and separate changes from noise.

The value of a repeated run (`simulate --repeat`) is the median of its repetitions, and their spread
is its noise. For a single run a default noise is assumed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import median
from typing import Any

from simulator import figures
from simulator.figures import (
    LATENCIES,
    LATENCY_SPANS,
    MESSAGE_COUNTS,
    THROUGHPUT,
    Unit,
    split_figure_name,
)
from simulator.results.archive.differences import RunDifference, find_differences
from simulator.results.archive.store import StoredResult
from simulator.results.observations import RunState

COMPARISON_VERSION = 1
"""Version of the JSON comparison. It changes when a key changes its meaning or is removed."""


class ChangeVerdict(StrEnum):
    """The judgement of a change; a figure without a rule is context."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    CONTEXT = "context"
    NOT_COMPARABLE = "not_comparable"


@dataclass(frozen=True)
class FigureRule:
    """The rule that judges a figure.

    Attributes:
        direction: 1 if more is better, -1 if less is, 0 if neither.
        share: default noise as a share of the value.
        min_noise: smallest default noise, in the figure's unit.
    """

    direction: int
    share: float = 0.0
    min_noise: float = 0.0


THROUGHPUT_RULE = FigureRule(direction=1, share=0.15)
LATENCY_RULE = FigureRule(direction=-1, share=0.30, min_noise=0.5)

EXACT_RULE = FigureRule(direction=0)
"""For figures that follow from the seed, without noise."""

MORE_IS_BETTER = FigureRule(direction=1)
LESS_IS_BETTER = FigureRule(direction=-1)

COUNTS = "counts"

FIGURE_GROUPS: dict[FigureRule | None, str] = {
    THROUGHPUT_RULE: THROUGHPUT,
    LATENCY_RULE: LATENCIES,
    EXACT_RULE: COUNTS,
    MORE_IS_BETTER: COUNTS,
    LESS_IS_BETTER: COUNTS,
}
"""Name of the figures that a rule judges, as in the key `not_comparable` of a summary."""

ENOUGH_RUNS = 5
"""Repetitions after which a change as large as the noise is accepted as it is."""

JUDGED_PERCENTILES = ("p50", "p90", "p95", "p99")
"""Higher ones depend on a few messages, and are shown without a judgement."""

MIN_NOISE_SHARE = 0.25
"""Smallest noise of repeated runs, as a share of the default: a few runs may agree by chance."""


def find_rule(figure: str) -> FigureRule | None:
    """Return the rule for a figure of a run or a campaign, or None if it is only shown."""
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
    """A figure before and after.

    Attributes:
        band: the largest change by chance; None for a figure without a rule.
    """

    figure: str
    unit: Unit
    before: float | None
    after: float | None
    band: float | None
    verdict: ChangeVerdict

    @property
    def difference(self) -> float | None:
        """The value after minus the value before; None if either is missing."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before

    @property
    def share(self) -> float | None:
        """The difference as a share of the value before."""
        return self.difference / self.before if self.difference and self.before else None

    @property
    def is_about_noise(self) -> bool:
        """True if the figure changed by half to twice its noise."""
        if not self.band or self.difference is None:
            return False
        return 0.5 <= abs(self.difference) / self.band <= 2

    def as_json(self) -> dict[str, Any]:
        """Return the change for JSON."""
        return {
            "figure": self.figure,
            "unit": self.unit.value,
            "before": self.before,
            "after": self.after,
            "difference": self.difference,
            "noise_band": self.band,
            "verdict": self.verdict.value,
        }


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Two runs, each followed by its repetitions, and the changes between them."""

    before: Sequence[StoredResult]
    after: Sequence[StoredResult]
    changes: tuple[FigureChange, ...]
    differences: tuple[RunDifference, ...]

    @property
    def unjudged_reason(self) -> str | None:
        """The cause if the runs can't be judged, or None."""
        for side in (self.before, self.after):
            if side[0].summary.state is not RunState.FINISHED:
                return f"{side[0].name} is partial ({side[0].summary.state})"
        return _describe_scenarios(self.before[0], self.after[0])

    @property
    def incomparable_groups(self) -> dict[str, str]:
        """Groups of figures that aren't judged, each with the cause."""
        return _find_incomparable_groups(self.before, self.after)

    @property
    def regressions(self) -> list[FigureChange]:
        """The figures that are worse by more than noise."""
        if self.unjudged_reason is not None:
            return []
        return [change for change in self.changes if change.verdict is ChangeVerdict.WORSE]

    @property
    def uncertain(self) -> list[FigureChange]:
        """The figures that changed by half to twice their noise: more repetitions would tell."""
        few = min(len(self.before), len(self.after)) < ENOUGH_RUNS
        if self.unjudged_reason is not None or not few:
            return []
        return [
            change
            for change in self.changes
            if change.band
            and change.difference
            and 0.5 <= abs(change.difference) / change.band <= 2
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        return {
            "version": COMPARISON_VERSION,
            "before": [result.summary.run for result in self.before],
            "after": [result.summary.run for result in self.after],
            "runs": [
                result.summary.model_dump(
                    mode="json", include={"run", "scenario", "seed", "state", "started_at"}
                )
                for result in (*self.before, *self.after)
            ],
            "unjudged": self.unjudged_reason,
            "not_comparable": self.incomparable_groups,
            "differences": [asdict(difference) for difference in self.differences],
            "regressions": [change.figure for change in self.regressions],
            "uncertain": [change.figure for change in self.uncertain],
            "changes": [change.as_json() for change in self.changes],
        }


def compare_runs(before: Sequence[StoredResult], after: Sequence[StoredResult]) -> RunComparison:
    """Compare a run with an earlier one.

    Args:
        before: the earlier run, followed by its repetitions.
        after: the later run, likewise. Two runs of one series are compared without the others.
    """
    if {result.name for result in before} & {result.name for result in after}:
        before, after = before[:1], after[:1]
    sides = [_campaign_names(before[0]), _campaign_names(after[0])]
    # The figures of a single campaign are those of the run.
    both = [name for name in sides[0] if name in sides[1]] if max(map(len, sides)) > 1 else []
    return RunComparison(
        before=before,
        after=after,
        changes=tuple(
            _compare_figure(figure, split_figure_name(figure, both)[1], unit, before, after)
            for figure, unit in figures.list_figure_units(both).items()
        ),
        differences=tuple(find_differences(before[0].summary, after[0].summary)),
    )


def _campaign_names(result: StoredResult) -> list[str]:
    return [campaign.campaign for campaign in result.summary.campaigns]


def _compare_figure(
    figure: str,
    name: str,
    unit: Unit,
    before: Sequence[StoredResult],
    after: Sequence[StoredResult],
) -> FigureChange:
    values = [_figure_values(figure, side) for side in (before, after)]
    was, now = (median(side) if side else None for side in values)
    rule = find_rule(name)
    group = FIGURE_GROUPS.get(rule)
    is_comparable = group not in _find_incomparable_groups(before, after)
    band = None if rule is None or not is_comparable else _noise_band(rule, was, values)
    verdict = _judge_change(rule, band, was, now)
    return FigureChange(
        figure=figure,
        unit=unit,
        before=was,
        after=now,
        band=band,
        verdict=verdict if is_comparable else ChangeVerdict.NOT_COMPARABLE,
    )


def _find_incomparable_groups(
    before: Sequence[StoredResult], after: Sequence[StoredResult]
) -> dict[str, str]:
    """Return the groups of figures that can't be compared, each with the cause."""
    scenarios = _describe_scenarios(before[0], after[0])
    if scenarios is not None:
        return dict.fromkeys(FIGURE_GROUPS.values(), scenarios)
    groups = {
        group: f"{run.name}: {cause}"
        for run in (*before, *after)
        for group, cause in run.summary.not_comparable.items()
    }
    seeds = [run.summary.seed for run in (before[0], after[0])]
    if seeds[0] != seeds[1]:
        groups[COUNTS] = f"the seeds differ ({seeds[0]} and {seeds[1]})"
    return groups


def _describe_scenarios(before: StoredResult, after: StoredResult) -> str | None:
    """Return that two runs are of different scenarios, or None."""
    names = [run.summary.scenario for run in (before, after)]
    return None if names[0] == names[1] else f"the scenarios differ ({names[0]} and {names[1]})"


def _figure_values(figure: str, runs: Sequence[StoredResult]) -> list[float]:
    values = (run.summary.figures.get(figure) for run in runs)
    return [value for value in values if value is not None]


def _noise_band(rule: FigureRule, was: float | None, values: Sequence[list[float]]) -> float:
    default = max(rule.share * abs(was or 0.0), rule.min_noise)
    spreads = [max(side) - min(side) for side in values if len(side) > 1]
    return max(*spreads, MIN_NOISE_SHARE * default) if spreads else default


def _judge_change(
    rule: FigureRule | None, band: float | None, was: float | None, now: float | None
) -> ChangeVerdict:
    if rule is None or band is None:
        return ChangeVerdict.CONTEXT
    if was is None and now is None:
        return ChangeVerdict.SAME
    if was is None or now is None:
        # A rate or latency without a value means that no message got that far.
        return ChangeVerdict.WORSE if now is None else ChangeVerdict.BETTER
    if abs(now - was) <= band:
        return ChangeVerdict.SAME
    if not rule.direction:
        return ChangeVerdict.CHANGED
    return ChangeVerdict.BETTER if (now - was) * rule.direction > 0 else ChangeVerdict.WORSE
