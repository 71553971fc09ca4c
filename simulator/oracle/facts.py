"""Facts of a run that the oracle takes from the record, because no plan has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from simulator.setup.run import RunCampaign
from tracker.queries.blocking_checks import read_messages_by_check
from workers.checks.base import shipped_check_names


@dataclass(frozen=True, kw_only=True)
class RecordedFacts:
    """What the oracle takes from the record; empty before a run.

    Attributes:
        rule_blocks: by campaign and by rule of another package, the ascending numbers of the
            messages that the rule blocked.
    """

    rule_blocks: Mapping[str, Mapping[str, NDArray[np.int64]]] = field(default_factory=dict)

    def count_rule_blocks(self, campaign: str) -> dict[str, int]:
        """Return how many messages of a campaign each rule of another package blocked."""
        return {name: len(numbers) for name, numbers in self.rule_blocks.get(campaign, {}).items()}

    def find_rule_blocked(self, campaign: str, first: int, count: int) -> NDArray[np.bool_]:
        """Return which messages from `first` on a rule of another package blocked."""
        blocked = np.zeros(count, np.bool_)
        for numbers in self.rule_blocks.get(campaign, {}).values():
            begin, end = np.searchsorted(numbers, [first, first + count])
            blocked[numbers[begin:end] - first] = True
        return blocked


NO_FACTS = RecordedFacts()
"""The facts before a run."""


def read_recorded_facts(connection: Connection, campaigns: Sequence[RunCampaign]) -> RecordedFacts:
    """Read the facts of a run that the oracle needs."""
    blocks = {
        run_campaign.campaign.name: read_messages_by_check(connection, run_campaign.campaign.id)
        for run_campaign in campaigns
    }
    # A shipped check that the record names isn't excused: the oracle models it.
    shipped = shipped_check_names()
    return RecordedFacts(
        rule_blocks={
            campaign: {name: numbers for name, numbers in rules.items() if name not in shipped}
            for campaign, rules in blocks.items()
        }
    )
