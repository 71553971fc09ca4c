"""Messages that credit or a message limit blocked, compared with their prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulator.oracle.credit import WithheldPrediction
from simulator.results.observations import RunObservations
from simulator.results.prediction_check import PredictionCheck
from simulator.setup.run import Run


@dataclass(frozen=True, kw_only=True)
class WithheldMessages:
    """Messages of an organization that credit or its message limit blocked.

    Attributes:
        predicted: None where the number depends on the order of concurrent campaigns.
    """

    predicted: int | None
    actual: int

    @property
    def is_as_predicted(self) -> bool:
        """True if the prediction is unknown or right."""
        return self.predicted in (None, self.actual)


def count_withheld(
    run: Run,
    predictions: Mapping[str | None, WithheldPrediction],
    checks: Sequence[PredictionCheck],
    observations: RunObservations,
) -> dict[str, WithheldMessages]:
    """Return the withheld messages by the organization's name."""
    plans = [run_campaign.plan for run_campaign in run.campaigns]
    names = {plan.organization_key: plan.organization.name for plan in plans}
    # Which messages of a part a limit blocks depends on the order of the batches.
    has_limit = any(plan.organization.message_limit is not None for plan in plans)
    is_unknown = not observations.has_settled or (has_limit and observations.is_partial)
    is_unknown |= observations.has_cancelled  # when it had used how much of them isn't predicted
    return {
        names[key]: WithheldMessages(
            predicted=None if is_unknown else prediction.withheld,
            actual=sum(
                check.withheld
                for plan, check in zip(plans, checks, strict=True)
                if plan.organization_key == key
            ),
        )
        for key, prediction in predictions.items()
    }
