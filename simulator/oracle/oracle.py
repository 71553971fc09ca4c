"""Predict how each message must end, before the run and without the workers' code.

The oracle reads the planned campaigns, planted defects and draws. It never calls a check.

Campaigns to one audience, or to the same addresses, change the customers for each other. If one
waits for another (`after`), the result is known. If they run concurrently, it depends on which
message comes first. The oracle then tells what may block a message instead, and how many messages
are blocked.

It doesn't model rules of other packages. It takes from the record which messages they blocked, and
predicts everything else from there. It also takes from there when messages were dispatched, if a
run lasts longer than the period of a message limit.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.oracle.costs import NO_COSTS, MessageCosts, find_costs, sum_costs
from simulator.oracle.customers import CustomerChunk
from simulator.oracle.facts import NO_FACTS, RecordedFacts
from simulator.oracle.outcomes import PredictedOutcomes
from simulator.oracle.persons import NO_PERSONS, SharedPersons, find_shared_persons
from simulator.oracle.prediction import AudiencePrediction
from simulator.scenario.plan import PlannedCampaign
from simulator.setup.census import ImportedAudience
from simulator.setup.run import RunCampaign
from tracker.status import Channel, Engagement, Reason

CHUNK_MESSAGES = 25_000
"""Messages that are predicted at a time; limits the memory."""


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """The predictions of one campaign's messages.

    Attributes:
        scenario_campaigns: all campaigns of the scenario, in its order.
        size: number of messages.
        imported_audience: what is known of the customers, if they come from a file.
        facts: what the oracle takes from the record; empty before a run.
        persons: customers of the scenario's audience files who have the same address.
    """

    campaign: PlannedCampaign
    scenario_campaigns: Sequence[PlannedCampaign]
    size: int
    imported_audience: ImportedAudience | None = None
    facts: RecordedFacts = NO_FACTS
    persons: SharedPersons = NO_PERSONS

    def predict(
        self, *, scarce_channels: Collection[Channel] = ()
    ) -> Iterator[tuple[int, PredictedOutcomes]]:
        """Yield the outcomes of all messages by chunks, each with the number of its first message.

        Args:
            scarce_channels: the channels on which credit blocks some messages.
        """
        for first, chunk in self._predict_chunks(scarce_channels):
            yield first, chunk.predict_outcomes(self.campaign)

    def predict_engagement(self, first: int, count: int) -> dict[Engagement, NDArray[np.bool_]]:
        """Return which customers from `first` on engage how with a message that stays delivered."""
        return self._predict_chunk(first, count).customers.predict_engagement(self.campaign)

    def count_sendable(self) -> tuple[int, int]:
        """Return how many messages only an allowance can block, and how many of them it must block.

        The second number counts the messages over the message limit. For concurrent campaigns it
        is counted for the first of them only.
        """
        sendable = over_limit = 0
        for _, chunk in self._predict_chunks():
            sendable += int(np.count_nonzero(chunk.predict_outcomes(self.campaign).sent))
            over_limit += chunk.count_over_limit(self.campaign)
        return sendable, over_limit

    def count_breaking(self) -> int:
        """Return how many messages break the gateway; they use credit until they have ended."""
        chunks = (chunk for _, chunk in self._predict_chunks())
        return sum(int(np.count_nonzero(chunk.find_breaking(self.campaign))) for chunk in chunks)

    def sum_costs(self) -> MessageCosts:
        """Return the credit for all messages that are sent if no allowance blocks them."""
        costs = NO_COSTS
        for first, chunk in self._predict_chunks():
            charged = chunk.predict_outcomes(self.campaign).sent
            charged = charged | chunk.find_breaking(self.campaign)
            count = chunk.customers.count
            all_costs = find_costs(self.campaign, self.imported_audience, first, count)
            costs += sum_costs(all_costs[charged])
        return costs

    def is_certain(self) -> bool:
        """Return whether it is known of every message what, except an allowance, blocks it."""
        allowance = (1 << Reason.MESSAGE_LIMIT) | (1 << Reason.OUT_OF_CREDIT)
        return not any(
            outcomes.uncertain.any() or (outcomes.possible_reasons & ~allowance).any()
            for _, outcomes in self.predict()
        )

    def has_unclear_limit(self) -> bool:
        """Return whether the record leaves open which messages count for the message limit."""
        return any(chunk.has_unclear_limit(self.campaign) for _, chunk in self._predict_chunks())

    def _predict_chunks(
        self, scarce_channels: Collection[Channel] = ()
    ) -> Iterator[tuple[int, AudiencePrediction]]:
        for first in range(0, self.size, CHUNK_MESSAGES):
            count = min(CHUNK_MESSAGES, self.size - first)
            yield first, self._predict_chunk(first, count, scarce_channels)

    def _predict_chunk(
        self, first: int, count: int, scarce_channels: Collection[Channel] = ()
    ) -> AudiencePrediction:
        return AudiencePrediction(
            self.scenario_campaigns,
            self.campaign.audience,
            CustomerChunk(self.imported_audience, self.facts, first, count),
            self.persons,
            scarce_channels,
        )


def build_oracles(
    campaigns: Sequence[RunCampaign], facts: RecordedFacts = NO_FACTS
) -> list[Oracle]:
    """Return the oracles of all campaigns of a run."""
    plans = [campaign.plan for campaign in campaigns]
    audiences = {
        campaign.plan.audience.owner: campaign.imported_audience
        for campaign in campaigns
        if campaign.imported_audience is not None
    }
    persons = find_shared_persons(plans, audiences)
    return [
        Oracle(
            campaign=campaign.plan,
            scenario_campaigns=plans,
            size=campaign.size,
            imported_audience=campaign.imported_audience,
            facts=facts,
            persons=persons,
        )
        for campaign in campaigns
    ]
