"""The result of a large run: its figures with all percentiles, and its page."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from simulator.pages.result_page import render_result_page
from simulator.results.measure import measure_run
from simulator.results.prediction_check import GatewayAnomalies, PredictionCheck
from simulator.results.result import RunConditions, RunObservations, RunResult, RunState
from simulator.run import environment
from simulator.scenario.file import load_scenario
from simulator.schema import open_database
from simulator.setup.record import Run, RunCampaign
from tracker.queries.report import Report, make_reports
from tracker.record import catalog
from tracker.settings import load_settings


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Seconds that it took to measure a run of so many messages, and to draw its page."""

    messages: int
    figures: float
    page: float


def time_result(url: str, scenario: Path) -> Timed:
    """Time the latest run in a database, of a ``scenario``, in a process that has drawn nothing."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_time_result, url, scenario).result()


def _time_result(url: str, scenario: Path) -> Timed:
    with closing(open_database(load_settings(database_url=url))) as database:
        with database.read_only_analytics() as connection:
            campaigns = catalog.find_campaigns(connection)
            reports = make_reports(connection, campaigns)
            run = _load_run(scenario, campaigns, [report.audience for report in reports])
            began = time.perf_counter()
            measured = measure_run(connection, run, reports, GatewayAnomalies(), [])
            figures = time.perf_counter() - began
        result = RunResult(
            run=run,
            observations=RunObservations(state=RunState.COMPLETE, planned=run.size),
            conditions=RunConditions(
                workers=None,
                batch_size=1,
                database=database.engine.dialect.name,
                durability=database.read_durability_settings(),
                machine={},
                versions=environment.read_versions(),
                timezone="UTC",
            ),
            reports=tuple(reports),
            prediction_checks=tuple(map(_make_matching_check, reports)),
            invariant_results=(),
            withheld={},
            thresholds=(),
            **vars(measured),
        )
        began = time.perf_counter()
        render_result_page(result)
        page = time.perf_counter() - began
    return Timed(messages=run.size, figures=figures, page=page)


def _make_matching_check(report: Report) -> PredictionCheck:
    """That all is as predicted: to find out is not what is measured."""
    return PredictionCheck(
        messages=report.audience,
        matching=report.audience,
        uncertain=0,
        unsettled=0,
        withheld=0,
        expected_engagement=report.engagement,
        expected_anomalies=GatewayAnomalies(),
        observed_anomalies=GatewayAnomalies(),
        differences=(),
        outcome_digest="",
    )


def _load_run(file: Path, campaigns: list[catalog.Campaign], sizes: list[int]) -> Run:
    scenario = load_scenario(file)
    loaded = (
        RunCampaign(campaign=campaign, plan=described, size=size)
        for campaign, described, size in zip(campaigns, scenario.campaigns, sizes, strict=True)
    )
    return Run(
        id=campaigns[0].run_id,
        scenario=scenario,
        campaigns=tuple(loaded),
        rejects=(),
        folder=file.parent,
    )
