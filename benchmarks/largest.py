"""The largest run: its memory, and its report, result and pages."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from benchmarks.context import DatabaseBenchmark
from benchmarks.databases import open_tables
from benchmarks.measures import Measure
from benchmarks.pipeline import WORKER_COUNT, PipelineMeasurement, run_pipeline, serve_live_page
from benchmarks.reports import measure_report
from benchmarks.timing import time_call
from benchmarks.viewers import find_slowest_page
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from simulator.pages.result_page import render_result_page
from simulator.results.measure import measure_run
from simulator.results.observations import RunConditions, RunObservations, RunState
from simulator.results.prediction_check import GatewayAnomalies
from simulator.results.result import judge_run
from simulator.run import environment
from simulator.setup.rebuild import load_run
from tracker.queries.report import make_reports
from tracker.record import catalog

PEAK_MEMORY = (
    ("driver", Measure("peak memory driver", below=250, unit=" MB")),
    ("worker", Measure("peak memory worker", below=300, unit=" MB")),
    ("pool child", Measure("peak memory pool child", below=300, unit=" MB")),
    ("broker", Measure("peak memory broker", unit=" MB")),
)
"""Measures by the role of a process."""

MIN_GROUP_BY_TO_REPORT = 10
RESULT_TO_COMMAND = Measure("figures and page ÷ command", below=0.05)
SLOWEST_PAGE = Measure("slowest page, p95", below=100, unit=" ms")


def measure_largest_run(bench: DatabaseBenchmark) -> None:
    """Measure a run of the largest size and what is read from its database."""
    with bench.create_database() as url:
        run = run_pipeline(url, bench.folder, bench.sizes["largest"], should_watch_memory=True)
        bench.figures["largest"] = run.as_json()
        for role, measure in PEAK_MEMORY:
            megabytes = run.peaks[role] / 1e6 if role in run.peaks else None
            figure = "not seen" if megabytes is None else f"{megabytes:,.0f} MB"
            bench.add_line(measure.make_line(megabytes, figure, detail=f"{run.messages:,}"))
        with open_tables(url) as database:
            measure_report(bench, database, at_least=MIN_GROUP_BY_TO_REPORT)
        _measure_result(bench, url, run)
        with serve_live_page(url, bench.folder) as address:
            path, seconds = find_slowest_page(address, run.messages, bench.sizes["page_calls"])
    bench.figures["waited"] = {"messages": run.messages, "address": path, "seconds": seconds}
    figure = f"{seconds * 1e3:,.0f} ms"
    bench.add_line(SLOWEST_PAGE.make_line(seconds * 1e3, figure, path, detail=f"{run.messages:,}"))


def _measure_result(bench: DatabaseBenchmark, url: str, run: PipelineMeasurement) -> None:
    """Measure the figures and the page in a new process, which has no chart library loaded."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        figures, page = pool.submit(_time_result, url).result()
    bench.figures["result"] = {"messages": run.messages, "figures": figures, "page": page}
    bench.add_line(
        RESULT_TO_COMMAND.make_line(
            (figures + page) / run.command_seconds,
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
