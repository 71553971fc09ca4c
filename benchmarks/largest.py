"""The largest run: its memory, and its report, result and pages."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import sqlalchemy as sa
from sqlalchemy import Connection

from benchmarks.context import CAMPAIGN_ID, DatabaseBenchmark
from benchmarks.databases import open_tables
from benchmarks.meter import time_call, time_in_turns
from benchmarks.pipeline import WORKER_COUNT, PipelineRun, run_pipeline, serve_live_page
from benchmarks.results import Measure
from benchmarks.viewers import find_slowest_page
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from simulator.pages.result_page import render_result_page
from simulator.results.anomalies import GatewayAnomalies
from simulator.results.measure import measure_run
from simulator.results.observations import RunConditions, RunObservations, RunState
from simulator.results.result import judge_run
from simulator.run import environment
from simulator.schema import analyze_all_tables
from simulator.setup.rebuild import load_run
from tracker.queries.report import make_reports
from tracker.record import catalog
from tracker.store.database import Database
from tracker.store.schema.messages import messages

PEAK_MEMORY = (
    ("driver", Measure("peak memory driver", "<", 250, unit=" MB")),
    ("worker", Measure("peak memory worker", "<", 300, unit=" MB")),
    ("pool", Measure("peak memory pool child", "<", 300, unit=" MB")),
    ("broker", Measure("peak memory broker", unit=" MB")),
)
"""Measures by the role of a process."""

GROUP_BY_TO_REPORT = Measure("GROUP BY ÷ report", "≥", 10)
RESULT_TO_COMMAND = Measure("figures and page ÷ command", "<", 0.05)
SLOWEST_PAGE = Measure("slowest page, p95", "<", 100, unit=" ms")

REPORT_TURNS = 7


def measure_largest_run(bench: DatabaseBenchmark) -> None:
    """Measure a run of the largest size and what is read from its database."""
    with bench.create_database() as url:
        run = run_pipeline(bench, url, "largest run", messages=bench.sizes.largest)
        bench.add_throughput("largest run", run.messages, [run.cost])
        for role, measure in PEAK_MEMORY:
            megabytes = [run.peaks[role] / 1e6] if role in run.peaks else []
            figure = f"{megabytes[0]:,.0f} MB" if megabytes else "not seen"
            bench.add_line(measure.make_line(megabytes, figure, detail=f"{run.messages:,}"))
        with open_tables(url) as database:
            _measure_report(bench, database)
        _measure_result(bench, url, run)
        with serve_live_page(url, bench.folder) as address:
            path, seconds = find_slowest_page(address, run.messages, bench.sizes.page_calls)
    figure = f"{seconds * 1e3:,.0f} ms"
    bench.add_line(
        SLOWEST_PAGE.make_line([seconds * 1e3], figure, path, detail=f"{run.messages:,}")
    )


def _measure_report(bench: DatabaseBenchmark, database: Database) -> None:
    """Measure the report beside the `GROUP BY` that it replaces, each over one connection."""
    analyze_all_tables(database)
    with database.read() as reader, database.read_only_analytics() as analytics:
        campaign = catalog.load_campaign(reader, CAMPAIGN_ID)
        count = _count_messages(analytics)
        assert _read_audience(reader, campaign) == count, "both count the same messages"
        report, group_by = time_in_turns(
            partial(_read_audience, reader, campaign),
            partial(_count_messages, analytics),
            REPORT_TURNS,
        )
    bench.add_line(GROUP_BY_TO_REPORT.compare_seconds(report, group_by, detail=f"{count:,}"))


def _read_audience(connection: Connection, campaign: catalog.Campaign) -> int:
    [report] = make_reports(connection, [campaign])
    return report.recorded


def _count_messages(connection: Connection) -> int:
    query = (
        sa.select(messages.c.status, messages.c.reason, sa.func.count())
        .where(messages.c.campaign_id == CAMPAIGN_ID)
        .group_by(messages.c.status, messages.c.reason)
    )
    return sum(row[2] for row in connection.execute(query))


def _measure_result(bench: DatabaseBenchmark, url: str, run: PipelineRun) -> None:
    """Measure the figures and the page in a new process, which has no chart library loaded."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        figures, page = pool.submit(_time_result, url).result()
    bench.add_line(
        RESULT_TO_COMMAND.make_line(
            [(figures + page) / run.command_seconds],
            f"{figures:,.2f} + {page:,.2f} s",
            f"{run.command_seconds:,.1f} s",
            detail=f"{run.messages:,}",
        )
    )


def _time_result(url: str) -> tuple[float, float]:
    """Return the seconds that the figures and the page of a database's only run take."""
    with open_tables(url) as database:
        with database.read_only_analytics() as connection:
            reports = make_reports(connection, catalog.find_campaigns(connection))
            run = load_run(connection, reports[0].campaign.run_id)
            observed = RunObservations(state=RunState.FINISHED, planned=run.size)
            figures = time_call(
                lambda: measure_run(connection, run, reports, GatewayAnomalies(), observed)
            )
        conditions = RunConditions(
            workers=WORKER_COUNT,
            batch_size=DEFAULT_BATCH_SIZE,
            database=database.engine.dialect.name,
            durability=database.read_durability_settings(),
            machine={},
            versions=environment.read_versions(),
            timezone="UTC",
        )
        result = judge_run(database, run, observed, conditions)
    return figures, time_call(lambda: render_result_page(result))
