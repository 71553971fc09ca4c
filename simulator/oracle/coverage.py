"""Predict which reasons a scenario reaches, and how often, without running it."""

from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from simulator.audience.problems import ProblemCounts
from simulator.audience.reader import read_customers
from simulator.audience.rejects import check_rejects
from simulator.audience.row_parser import CustomerRecord
from simulator.oracle.credit import predict_withheld
from simulator.oracle.oracle import Oracle
from simulator.oracle.persons import find_shared_persons
from simulator.scenario.file import Scenario
from simulator.scenario.plan import PlannedAudience, select_audience_campaigns
from simulator.setup.census import AudienceScanner, ImportedAudience
from tracker.status import Reason

LEADING_COLUMNS = ("category", "reason")
"""Columns of the coverage table before those of the scenarios."""


def scenarios_by_column(scenarios: Mapping[Path, Scenario]) -> dict[str, Scenario]:
    """Return scenarios by their names, followed by their paths where names are ambiguous."""
    names = Counter([*LEADING_COLUMNS, *(scenario.name for scenario in scenarios.values())])
    return {
        scenario.name if names[scenario.name] == 1 else f"{scenario.name} ({path})": scenario
        for path, scenario in scenarios.items()
    }


def count_predicted_reasons(scenario: Scenario) -> Counter[Reason]:
    """Return how many messages of all campaigns end for each reason.

    Messages that credit or a message limit withholds are counted once: as over the limit if the
    limit alone would block them, else as out of credit.
    """
    oracles = build_scenario_oracles(scenario)
    counts: Counter[Reason] = Counter()
    for oracle in oracles:
        for _, outcomes in oracle.predict():
            reasons = outcomes.reasons[~outcomes.sent]
            codes, numbers = np.unique(reasons, return_counts=True)
            counts.update({Reason(code): int(n) for code, n in zip(codes, numbers, strict=True)})
    over_limit = sum(oracle.count_sendable()[1] for oracle in oracles)
    predictions = predict_withheld(oracles).values()
    withheld = sum(prediction.withheld or 0 for prediction in predictions)
    counts[Reason.MESSAGE_LIMIT] += over_limit
    counts[Reason.OUT_OF_CREDIT] += withheld - over_limit
    return counts


def build_scenario_oracles(scenario: Scenario) -> list[Oracle]:
    """Return the oracles of a scenario's campaigns before anything of it is recorded."""
    audiences = {campaign.audience.owner: campaign.audience for campaign in scenario.campaigns}
    customers = {owner: _read_audience(scenario, audiences[owner]) for owner in audiences}
    imported = {
        owner: audience for owner, (_, audience) in customers.items() if audience is not None
    }
    persons = find_shared_persons(scenario.campaigns, imported)
    return [
        Oracle(
            campaign=campaign,
            scenario_campaigns=scenario.campaigns,
            size=customers[campaign.audience.owner][0],
            imported_audience=customers[campaign.audience.owner][1],
            persons=persons,
        )
        for campaign in scenario.campaigns
    ]


def _read_audience(
    scenario: Scenario, audience: PlannedAudience
) -> tuple[int, ImportedAudience | None]:
    """Return the size of an audience, and what is known of it if it comes from a file."""
    if isinstance(audience.source, int):
        return audience.source, None
    today = scenario.clock.begin_day()
    campaigns = select_audience_campaigns(scenario.campaigns, audience)
    scanner = AudienceScanner(campaigns, today, audience.source.load_format().duplicates)
    counts = ProblemCounts()
    rows = read_customers(audience.source, counts)
    deque(scanner.scan(row for row in rows if isinstance(row, CustomerRecord)), maxlen=0)
    check_rejects(audience.source, counts)
    return counts.customers, scanner.build_imported_audience()
