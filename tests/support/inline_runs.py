"""Run scenarios in this process: the real steps on a real database, without Celery."""

from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from simulator.results.observations import RunConditions, RunObservations, RunState
from simulator.results.result import RunResult, judge_run
from simulator.scenario.file import Scenario, resolve_scenario
from simulator.scenario.plan import PlannedCampaign
from simulator.scenario.sections import CampaignSection
from simulator.scenario.tables import ScenarioFile
from simulator.setup.record import record_run
from simulator.setup.run import Run, RunCampaign
from tests.support.factory import AUTHOR, step_context
from tracker.queries.next_step import CHECK_CHAIN, NextStep, next_step
from tracker.record import registration
from tracker.record.catalog import Batch, load_batch
from tracker.record.journal import enqueue_batch
from tracker.record.rollup import roll_up_engagement
from tracker.settings import load_settings
from tracker.status import Channel, Step
from tracker.store.database import Database
from workers.checks.base import checks_of
from workers.gateways import base as gateways
from workers.gateways.throttle import UnlimitedThrottle
from workers.services.base import load_services_factory
from workers.steps import at_gateway, before_gateway
from workers.steps.bisection import SegmentFailed, SegmentsLeft, bisecting
from workers.steps.context import StepContext

MAX_STEPS = 100
"""Steps after which any batch has settled: attempts times steps."""


def build_scenario(
    *campaigns: CampaignSection,
    seed: int = 42,
    path: Path = Path("test.toml"),
    text: str = "",
    **tables: Any,
) -> Scenario:
    """Return a scenario with these campaigns and other tables of the file."""
    file = ScenarioFile.model_validate(
        {"name": "test", "seed": seed, "campaigns": campaigns, **tables}
    )
    return resolve_scenario(file, path=path, text=text)


def build_campaign(name: str = "spring", **keys: Any) -> CampaignSection:
    """Return the table of an email campaign to five customers, with other keys of the file."""
    usual: dict[str, Any] = {"name": name, "channel": Channel.EMAIL, "audience": 5}
    return CampaignSection.model_validate(usual | keys)


def build_plan(campaign: CampaignSection, **tables: Any) -> PlannedCampaign:
    """Return the plan of a campaign that is alone in its scenario."""
    [plan] = build_scenario(campaign, **tables).campaigns
    return plan


def run_step(
    database: Database,
    batch: Batch,
    step: Step,
    gateway: gateways.Gateway | None = None,
) -> NextStep | None:
    """Run a step on a batch as its task does, and return what follows: its chain, or the record."""
    with database.read() as connection:
        batch = load_batch(connection, batch.campaign.id, batch.batch)
    campaign = batch.campaign
    services = load_services_factory(campaign.services_kind)(campaign.services_settings, database)
    gateway = gateway or gateways.load_gateway_kind(campaign.gateway_kind).factory(
        campaign.gateway_settings, database
    )
    context = step_context(database, batch)
    following: NextStep | None = None
    match step:
        case Step.SUPPRESS | Step.VALIDATE:
            before_gateway.judge_batch(context, step, checks_of(step), services)
        case Step.DISPATCH:
            before_gateway.dispatch(context, services)
        case Step.SUBMIT:
            following = _submit(context, gateway)
        case Step.DELIVER:
            at_gateway.deliver(context, gateway)
        case Step.ENGAGE:
            at_gateway.engage(context, gateway)
        case _:
            pytest.fail(f"{step} has no step function")
    if step in CHECK_CHAIN[:-1]:
        return NextStep(CHECK_CHAIN[CHECK_CHAIN.index(step) + 1])
    return following or next_step(database, batch, completed=step)


def _submit(context: StepContext, gateway: gateways.Gateway) -> NextStep | None:
    """Submit as tasks do: a message that breaks the gateway is blocked, and the others go on."""
    for _ in range(MAX_STEPS):
        try:
            with bisecting(
                context, Step.SUBMIT, is_retry=False, refund_first=None, transient_errors=()
            ) as narrowed:
                return at_gateway.submit(narrowed, gateway, UnlimitedThrottle())
        except (SegmentFailed, SegmentsLeft):
            continue
    pytest.fail(f"batch {context.batch.batch} still has segments")


def settle_batch(database: Database, batch: Batch) -> None:
    """Run the steps that a batch needs until it has settled."""
    following = next_step(database, batch)
    for _ in range(MAX_STEPS):
        if following is None:
            return
        following = run_step(database, batch, following.step)
    pytest.fail(f"batch {batch.batch} does not settle; {following} would follow")


def enqueue_campaign(database: Database, run_campaign: RunCampaign, number: int = 1) -> list[Batch]:
    """Queue all messages of a campaign in a number of batches."""
    bounds = [run_campaign.size * place // number for place in range(number + 1)]
    return [
        enqueue_batch(
            database,
            run_campaign.campaign,
            batch=place,
            first=first,
            size=bounds[place + 1] - first,
            author=AUTHOR,
        )
        for place, first in enumerate(bounds[:-1])
    ]


def run_scenario(
    database: Database, scenario: Scenario, folder: Path, *, concurrent: Sequence[str] = ()
) -> RunResult:
    """Run a scenario to its end, one campaign after the other, and return its result.

    Concurrent campaigns run each step together until the dispatch.
    """
    run = record_run(database, scenario, folder, lambda _: None)
    queued = {
        run_campaign.campaign.name: enqueue_campaign(database, run_campaign)
        for run_campaign in run.campaigns
    }
    for step in CHECK_CHAIN:
        for name in concurrent:
            for batch in queued[name]:
                run_step(database, batch, step)
    for batches in queued.values():
        for batch in batches:
            settle_batch(database, batch)
    return judge_recorded_run(database, run)


def judge_recorded_run(database: Database, run: Run) -> RunResult:
    """Roll up engagement, end a run, and return its result."""
    roll_up_engagement(database, UTC)
    with database.write() as connection:
        registration.finish_run(connection, run.id, run.clock.now())
    conditions = RunConditions(
        workers=None,
        batch_size=run.size,
        database=database.engine.dialect.name,
        durability={},
        machine={},
        versions={},
        timezone=load_settings().timezone,
    )
    observations = RunObservations(state=RunState.FINISHED, planned=run.size)
    return judge_run(database, run, observations, conditions)


def assert_passed(result: RunResult) -> None:
    """Assert that every message ended as predicted and that no invariant is broken."""
    assert [check for check in result.prediction_checks if check.differences] == []
    assert [finding for finding in result.invariant_results if not finding.is_satisfied] == []
    assert all(count.is_as_predicted for count in result.withheld.values()), result.withheld
    assert result.has_passed
