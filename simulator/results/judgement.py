"""Judgements of the conditions that a scenario sets on its result: met, missed or not judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ConditionResult:
    """The judgement of one condition.

    Attributes:
        holds: whether the measured value, which may be partial, fulfils the condition.
        unjudged_reason: why the condition can't be judged, or None.
    """

    holds: bool
    unjudged_reason: str | None = None

    @property
    def is_met(self) -> bool | None:
        """True if the condition is met, False if it is missed, None if it can't be judged."""
        return self.holds if self.unjudged_reason is None else None

    def as_json(self) -> dict[str, Any]:
        """Return the judgement as `summary.json` has it."""
        return {"passed": self.is_met, "not_judged": self.unjudged_reason}


def are_all_met(judgements: Sequence[ConditionResult]) -> bool | None:
    """Return True if all are met, False if any is missed, None if any other isn't judged."""
    states = {judgement.is_met for judgement in judgements}
    return False if False in states else None if None in states else True


def count_missed(judgements: Sequence[ConditionResult]) -> int:
    """Return how many conditions are missed."""
    return sum(judgement.is_met is False for judgement in judgements)


def count_unjudged(judgements: Sequence[ConditionResult]) -> int:
    """Return how many conditions can't be judged."""
    return sum(judgement.is_met is None for judgement in judgements)
