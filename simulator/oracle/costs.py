"""The credit that messages cost."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.scenario.plan import PlannedCampaign
from simulator.setup.census import ImportedAudience
from simulator.setup.customers import make_generated_record
from simulator.setup.message_costs import CANNOT_BE_MADE, make_customer_cost
from simulator.world.defects import draw_defects


@dataclass(frozen=True)
class MessageCosts:
    """The credit for some messages: for the cheapest, the most expensive, and all of them."""

    least: int
    greatest: int
    total: int

    def __add__(self, other: "MessageCosts") -> "MessageCosts":
        return MessageCosts(
            min(self.least, other.least),
            max(self.greatest, other.greatest),
            self.total + other.total,
        )


NO_COSTS = MessageCosts(2**31, 0, 0)
"""The costs of no message."""


def sum_costs(costs: NDArray[np.int64]) -> MessageCosts:
    """Return the sum of some messages' costs."""
    if not len(costs):
        return NO_COSTS
    return MessageCosts(int(costs.min()), int(costs.max()), int(costs.sum()))


def find_costs(
    campaign: PlannedCampaign, imported: ImportedAudience | None, first: int, count: int
) -> NDArray[np.int64]:
    """Return the credit that the messages from `first` on cost."""
    cost = make_customer_cost(campaign)
    if isinstance(cost, int):
        return np.full(count, cost, np.int64)
    if imported is not None:
        costs = imported.costs[campaign.name][first : first + count].astype(np.int64)
        return np.maximum(costs, 1)  # a message that can't be made is charged at first
    audience = campaign.audience
    defects = draw_defects(campaign.seed, audience.owner, audience.defects, first, count)
    return np.array(
        [
            cost(make_generated_record(number, defect, audience.requires))
            for number, defect in enumerate(defects.tolist(), first)
        ],
        np.int64,
    )


def find_failing(
    campaign: PlannedCampaign, imported: ImportedAudience | None, first: int, count: int
) -> NDArray[np.bool_]:
    """Return which messages from `first` on can't be made, if their gateway sends text."""
    if imported is None or campaign.name not in imported.costs:
        return np.zeros(count, np.bool_)
    return np.asarray(imported.costs[campaign.name][first : first + count] == CANNOT_BE_MADE)
