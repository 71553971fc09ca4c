"""What each message must end as, computed before the run and without the workers' code.

From the labels of its customers and from the draws, never by asking a check. Campaigns to one
audience change its customers for each other. Where one waits for another (``after``) what comes of
it is known. Where they run side by side it depends on who comes first: then the oracle says what a
message may be stopped for instead, and how many will be. So it does for the checks that other
packages brought, of which it knows no more than their reasons.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.oracle.prediction import AudiencePrediction, PredictedOutcomes
from simulator.scenario.file import Scenario
from simulator.scenario.sections import Campaign
from simulator.setup.census import ImportedAudience
from simulator.setup.record import RunCampaign
from tracker.status import Engagement, Reason
from workers.checks.base import third_party_checks

CHUNK_MESSAGES = 50_000
"""Messages that are predicted at a time: what bounds the memory."""


@dataclass(frozen=True)
class Oracle:
    """Predicts the messages of one campaign; ``population`` is that of an imported audience."""

    scenario: Scenario
    campaign: Campaign
    size: int
    population: ImportedAudience | None = None

    @classmethod
    def of(cls, scenario: Scenario, loaded: RunCampaign) -> "Oracle":
        """Return the oracle of a campaign that is recorded."""
        return cls(scenario, loaded.plan, loaded.size, loaded.population)

    def predict(self, *, credit_is_scarce: bool = False) -> Iterator[tuple[int, PredictedOutcomes]]:
        """The fates of all messages, chunk by chunk, each with the number of its first message."""
        for first, chunk in self._predict_chunks(credit_is_scarce):
            yield first, chunk.fates(self.campaign)

    def engaged(self, first: int, count: int) -> dict[Engagement, NDArray[np.bool_]]:
        """Who of the customers ``first`` … does what with a message that is delivered."""
        return self._predict_chunk(first, count).engaged(self.campaign)

    def sendable(self) -> tuple[int, int]:
        """How many messages only an allowance can stop, and how many of those it will stop because
        of the message limit. The latter are counted for the first of campaigns side by side."""
        sendable = excess = 0
        for _, chunk in self._predict_chunks():
            sendable += int(np.count_nonzero(chunk.fates(self.campaign).sent))
            excess += chunk.excess(self.campaign)
        return sendable, excess

    def is_certain(self) -> bool:
        """Whether it is known of every message if anything but an allowance stops it."""
        allowance = (1 << Reason.MESSAGE_LIMIT) | (1 << Reason.OUT_OF_CREDIT)
        predicted = (chunk.fates(self.campaign) for _, chunk in self._predict_chunks())
        return not any(
            fates.uncertain.any() or (fates.instead & ~allowance).any() for fates in predicted
        )

    def _predict_chunks(
        self, credit_is_scarce: bool = False
    ) -> Iterator[tuple[int, AudiencePrediction]]:
        for first in range(0, self.size, CHUNK_MESSAGES):
            yield (
                first,
                self._predict_chunk(
                    first, min(CHUNK_MESSAGES, self.size - first), credit_is_scarce
                ),
            )

    def _predict_chunk(
        self, first: int, count: int, credit_is_scarce: bool = False
    ) -> AudiencePrediction:
        owner = self.scenario.audience_owner_of(self.campaign)
        return AudiencePrediction(
            self.scenario, owner, self.population, first, count, credit_is_scarce
        )


@dataclass(frozen=True, kw_only=True)
class WithheldPrediction:
    """What credit and message limit will withhold, of one organization: how many, not which.

    ``withheld`` is None where it can't be told.
    """

    withheld: int | None
    credit_is_scarce: bool


def predict_withheld(
    scenario: Scenario, oracles: Sequence[Oracle]
) -> Mapping[str | None, WithheldPrediction]:
    """By the name under which a campaign knows its organization."""
    found: dict[str | None, WithheldPrediction] = {}
    for name in {oracle.campaign.organization for oracle in oracles}:
        of_it = [oracle for oracle in oracles if oracle.campaign.organization == name]
        sendable, excess = (sum(each) for each in zip(*(o.sendable() for o in of_it), strict=True))
        credit = scenario.organization_of(of_it[0].campaign).credit
        scarce = credit is not None and sendable - excess > credit
        handed = min(sendable - excess, credit) if credit is not None else sendable - excess
        certain = not third_party_checks() and all(oracle.is_certain() for oracle in of_it)
        if scarce and any(oracle.campaign.after for oracle in of_it):
            certain = False
        found[name] = WithheldPrediction(
            withheld=sendable - handed if certain else None, credit_is_scarce=scarce
        )
    return found
