"""Rebuild a run from the record, so that it can be judged or resumed without its first driver."""

import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from simulator.audience.problems import PROBLEMS_BY_SLUG
from simulator.audience.rejects import AudienceImport
from simulator.scenario.file import Scenario, parse_scenario
from simulator.schema import run_setups
from simulator.setup.census import load_census
from simulator.setup.expected_outcomes import load_expected_outcomes
from simulator.setup.run import Run, RunCampaign
from tracker.errors import NotFound, UsageError
from tracker.record.catalog import Campaign, find_campaigns
from tracker.record.retention.runs import IS_NOT_PRUNED
from tracker.store.database import Database
from tracker.store.schema.catalog import audiences, runs
from workers.message.source import MessageSource


class RunNotStarted(UsageError):
    """A run ended before all of its customers were recorded."""

    def __init__(self, run_id: int) -> None:
        super().__init__(
            f"run {run_id} never started: its driver ended while it prepared the run;"
            " run the scenario again"
        )


def record_setup(database: Database, connection: Connection, run: Run) -> None:
    """Record what a run has besides its definition; a second call changes nothing."""
    imports = [
        {
            "audience": str(audience.audience),
            "rows": audience.rows,
            "problems": dict(audience.problems),
            "rejects_file": None if audience.rejects_file is None else str(audience.rejects_file),
        }
        for audience in run.imports
    ]
    connection.execute(
        database.insert_missing(run_setups).values(
            run_id=run.id,
            scenario_file=str(run.scenario.path),
            folder=str(run.folder.absolute()),
            rejects=json.dumps(imports),
        )
    )


def load_run(connection: Connection, run_id: int) -> Run:
    """Rebuild a run from the record; audience files aren't read again.

    Its folder may be gone. The connection's transaction must see one snapshot.

    Raises:
        NotFound: the run doesn't exist.
        RunNotStarted: its customers were never recorded completely.
        InvalidScenario: this version of sendtrace can't read its scenario.
    """
    row = connection.execute(
        sa.select(runs.c.definition, runs.c.seed, run_setups)
        .outerjoin(run_setups, run_setups.c.run_id == runs.c.id)
        .where(runs.c.id == run_id, IS_NOT_PRUNED)
    ).one_or_none()
    if row is None:
        raise NotFound(f"run {run_id} does not exist; see sendtrace runs")
    if row.folder is None:
        raise RunNotStarted(run_id)
    campaigns = find_campaigns(connection, run=run_id)
    scenario = parse_scenario(
        row.definition,
        Path(row.scenario_file),
        seed=row.seed,
        messages={
            campaign.name: MessageSource.from_json(campaign.message) for campaign in campaigns
        },
    )
    return Run(
        id=run_id,
        scenario=scenario,
        campaigns=_load_campaigns(connection, scenario, campaigns),
        imports=_parse_imports(row),
        folder=Path(row.folder),
    )


def _load_campaigns(
    connection: Connection, scenario: Scenario, campaigns: list[Campaign]
) -> tuple[RunCampaign, ...]:
    by_name = {campaign.name: campaign for campaign in campaigns}
    pairs = [(by_name[plan.name], plan) for plan in scenario.campaigns]
    ids = {campaign.audience_id for campaign in campaigns}
    query = sa.select(audiences.c.id, audiences.c.size).where(audiences.c.id.in_(ids))
    sizes = dict(connection.execute(query).all())
    imported = {campaign.audience_id for campaign, plan in pairs if plan.audience.is_imported}
    censuses = {audience_id: load_census(connection, audience_id) for audience_id in imported}
    return tuple(
        RunCampaign(
            campaign=campaign,
            plan=plan,
            size=sizes[campaign.audience_id],
            imported_audience=censuses.get(campaign.audience_id),
            expected_outcomes=load_expected_outcomes(connection, campaign.id),
        )
        for campaign, plan in pairs
    )


def _parse_imports(row: Row[Any]) -> tuple[AudienceImport, ...]:
    return tuple(
        AudienceImport(
            audience=Path(audience["audience"]),
            rows=audience["rows"],
            problems={
                PROBLEMS_BY_SLUG[name]: count for name, count in audience["problems"].items()
            },
            rejects_file=Path(file) if (file := audience["rejects_file"]) else None,
        )
        for audience in json.loads(row.rejects)
    )
