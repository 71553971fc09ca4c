"""Compare the figures of a run with the thresholds of its scenario."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from simulator.figures import Figures
from simulator.results.judgement import ConditionResult
from simulator.scenario.thresholds import Threshold


@dataclass(frozen=True, kw_only=True)
class ThresholdResult(ConditionResult):
    """A threshold, the value of its figure, and whether that meets it."""

    threshold: Threshold
    value: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the result as `summary.json` has it."""
        return {
            "figure": self.threshold.figure,
            "threshold": self.threshold.expression,
            "value": self.value,
            "unit": self.threshold.unit.value,
            **super().as_json(),
        }


def evaluate_thresholds(
    thresholds: Sequence[Threshold],
    figures: Figures,
    aborted: Threshold | None = None,
    unjudged: Mapping[str, str] = MappingProxyType({}),
) -> tuple[ThresholdResult, ...]:
    """Compare figures with their thresholds.

    Args:
        aborted: the threshold because of which the run was aborted. It is missed, whatever the
            partial figure.
        unjudged: figures whose thresholds can't be judged, each with the cause.
    """
    return tuple(
        ThresholdResult(
            threshold=threshold,
            value=figures[threshold.figure],
            holds=threshold != aborted and threshold.is_met_by(figures[threshold.figure]),
            unjudged_reason=None if threshold == aborted else unjudged.get(threshold.figure),
        )
        for threshold in thresholds
    )
