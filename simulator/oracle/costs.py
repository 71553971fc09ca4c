"""The credit that messages cost."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.scenario.plan import PlannedCampaign
from simulator.setup.census import ImportedAudience
from simulator.setup.customers import make_generated_record
from simulator.setup.sms_costs import make_customer_cost
from simulator.world.defects import draw_defects


@dataclass(frozen=True)
class MessageCosts:
    """The credit for some messages: for the cheapest, for the dearest and for all of them."""

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
        return imported.costs[campaign.name][first : first + count].astype(np.int64)
    audience = campaign.audience
    defects = draw_defects(campaign.seed, audience.owner, audience.defects, first, count)
    return np.array(
        [
            cost(make_generated_record(number, defect, audience.requires))
            for number, defect in enumerate(defects.tolist(), first)
        ],
        np.int64,
    )
