"""Changes of customers by the campaigns that come before a campaign."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator.oracle.persons import MessageEffects
from simulator.scenario.plan import PlannedCampaign


@dataclass(frozen=True)
class PredictedHistory:
    """Changes of customers by earlier campaigns, as arrays of one length.

    Attributes:
        hard_bounces: hard bounces on the campaign's channel.
        soft_bounces: soft bounces on the campaign's channel since the last delivery.
        messages_sent: messages of earlier campaigns in the message limit's period.
        most_messages_sent: messages of earlier campaigns that may lie in the period.
        opted_out: whether an earlier message made the customer opt out of the channel.
        uncertain: whether the history depends on which campaign came first.
    """

    hard_bounces: NDArray[np.int64]
    soft_bounces: NDArray[np.int64]
    messages_sent: NDArray[np.int64]
    most_messages_sent: NDArray[np.int64]
    opted_out: NDArray[np.bool_]
    uncertain: NDArray[np.bool_]

    def add_bounces(self, effects: MessageEffects) -> "PredictedHistory":
        """Return the history with the bounces of more messages."""
        return replace(
            self,
            hard_bounces=self.hard_bounces + effects.hard_bounces,
            soft_bounces=self.soft_bounces + effects.soft_bounces,
        )

    def has_bounced_repeatedly(self, campaign: PlannedCampaign) -> NDArray[np.bool_]:
        """Return which customers a campaign suppresses for their bounces."""
        organization = campaign.organization
        return (self.hard_bounces >= organization.hard_bounce_limit) | (
            self.soft_bounces >= organization.soft_bounce_limit
        )
