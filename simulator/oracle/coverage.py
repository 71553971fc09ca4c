"""Which reasons a scenario reaches, and how often, as the oracle predicts it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from simulator.oracle.oracle import Oracle, predict_withheld
from simulator.scenario.audience_file import CustomerRecord, read_customers
from simulator.scenario.file import Scenario
from simulator.scenario.sections import Campaign
from simulator.setup.census import AudienceScanner, ImportedAudience
from tracker.clock import SystemClock, to_datetime
from tracker.status import Reason

LEADING_COLUMNS = ("category", "reason")
"""The columns before those of scenarios."""


def scenarios_by_column(scenarios: Mapping[Path, Scenario]) -> dict[str, Scenario]:
    """Scenarios by their names, and with their files where a name alone can't be a column."""
    names = Counter([*LEADING_COLUMNS, *(each.name for each in scenarios.values())])
    return {
        each.name if names[each.name] == 1 else f"{each.name} ({path})": each
        for path, each in scenarios.items()
    }


def count_predicted_reasons(scenario: Scenario) -> Counter[Reason]:
    """How many messages of all campaigns end for each reason.

    Of messages that credit or a message limit withholds, only those are known to be out of credit
    that no limit would stop.
    """
    oracles = build_oracles(scenario)
    counts: Counter[Reason] = Counter()
    for oracle in oracles:
        for _, fates in oracle.predict():
            codes, numbers = np.unique(fates.reasons[~fates.sent], return_counts=True)
            counts.update({Reason(code): int(n) for code, n in zip(codes, numbers, strict=True)})
    excess = sum(oracle.sendable()[1] for oracle in oracles)
    withheld = sum(each.withheld or 0 for each in predict_withheld(scenario, oracles).values())
    counts[Reason.MESSAGE_LIMIT] += excess
    counts[Reason.OUT_OF_CREDIT] += withheld - excess
    return counts


def build_oracles(scenario: Scenario) -> list[Oracle]:
    """The oracles of a scenario's campaigns, before anything of it is recorded."""
    today = to_datetime(SystemClock().now()).date()
    populations: dict[str, tuple[int, ImportedAudience | None]] = {}
    for campaign in scenario.campaigns:
        owner = scenario.audience_owner_of(campaign)
        if owner.name not in populations:
            if isinstance(owner.audience, int):
                populations[owner.name] = owner.audience, None
            else:
                census = AudienceScanner(scenario.campaigns_sharing_audience(owner), today)
                size = sum(1 for _ in census.scan(_read_valid_customers(scenario, owner)))
                populations[owner.name] = size, census.build_imported_audience()
    return [
        Oracle(scenario, campaign, *populations[scenario.audience_owner_of(campaign).name])
        for campaign in scenario.campaigns
    ]


def _read_valid_customers(scenario: Scenario, owner: Campaign) -> Iterator[CustomerRecord]:
    for read in read_customers(scenario.audience_file_of(owner)):
        if isinstance(read, CustomerRecord):
            yield read
