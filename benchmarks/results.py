"""The result of a large run: its figures with all percentiles, and its page."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from simulator.pages.result_page import result_page
from simulator.results.measure import measure
from simulator.results.prediction_check import Comparison, Mishaps
from simulator.results.result import Conditions, Observed, Result, State
from simulator.run import environment
from simulator.scenario.file import load_scenario
from simulator.schema import open_database
from simulator.setup.record import Loaded, Run
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
        return fresh.submit(_time, url, scenario).result()


def _time(url: str, scenario: Path) -> Timed:
    with closing(open_database(load_settings(database_url=url))) as database:
        with database.survey() as connection:
            campaigns = catalog.find_campaigns(connection)
            reports = make_reports(connection, campaigns)
            run = _run(scenario, campaigns, [report.audience for report in reports])
            began = time.perf_counter()
            measured = measure(connection, run, reports, Mishaps(), [])
            figures = time.perf_counter() - began
        result = Result(
            run=run,
            observed=Observed(state=State.COMPLETE, planned=run.size),
            conditions=Conditions(
                workers=None,
                batch_size=1,
                database=database.engine.dialect.name,
                durability=database.durability(),
                machine={},
                versions=environment.versions(),
                timezone="UTC",
            ),
            reports=tuple(reports),
            comparisons=tuple(map(_agreeing, reports)),
            findings=(),
            withheld={},
            thresholds=(),
            **vars(measured),
        )
        began = time.perf_counter()
        result_page(result)
        page = time.perf_counter() - began
    return Timed(messages=run.size, figures=figures, page=page)


def _agreeing(report: Report) -> Comparison:
    """That all is as predicted: to find out is not what is measured."""
    return Comparison(
        messages=report.audience,
        as_predicted=report.audience,
        uncertain=0,
        unsettled=0,
        withheld=0,
        engagement=report.engagement,
        expected=Mishaps(),
        observed=Mishaps(),
        differences=(),
        fates="",
    )


def _run(file: Path, campaigns: list[catalog.Campaign], sizes: list[int]) -> Run:
    scenario = load_scenario(file)
    loaded = (
        Loaded(campaign=campaign, plan=described, size=size)
        for campaign, described, size in zip(campaigns, scenario.campaigns, sizes, strict=True)
    )
    return Run(
        id=campaigns[0].run_id,
        scenario=scenario,
        campaigns=tuple(loaded),
        rejects=(),
        folder=file.parent,
    )
