"""The pipeline beside its floors and its variants, in interleaved rounds."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import numpy as np
import sqlalchemy as sa

from benchmarks.context import DatabaseBenchmark
from benchmarks.databases import open_tables
from benchmarks.floor import TableRows, read_rows, write_floor, write_schema_floor
from benchmarks.in_process import measure_judging
from benchmarks.meter import Cost, order_turn
from benchmarks.pipeline import PipelineRun, run_pipeline, serve_live_page
from benchmarks.results import Measure
from benchmarks.viewers import VIEWER_COUNT, run_viewers
from tracker.clock import to_seconds
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.catalog import runs
from tracker.store.schema.messages import transitions
from tracker.store.schema.work import recoveries

PIPELINE = "pipeline"
FLOOR = "floor"
SCHEMA_FLOOR = "schema floor"
UNRECORDED = "without recording"
UNSWEPT = "without sweep"
WATCHED = f"with {VIEWER_COUNT} viewers"

WATCHED_INTERVAL = 4
"""Rounds from one run with viewers to the next. Two runs are enough for a small difference."""

PIPELINE_TO_FLOOR = {
    "sqlite": Measure("pipeline ÷ floor", "≥", 0.9),
    "postgresql": Measure("pipeline ÷ floor", "≥", 0.5),
}
PIPELINE_TO_SCHEMA_FLOOR = Measure("pipeline ÷ schema floor")
PIPELINE_TO_UNRECORDED = Measure("pipeline ÷ without recording", "≥", 0.95)
PIPELINE_TO_UNSWEPT = Measure("pipeline ÷ without sweep", "≥", 0.97)
WATCHED_TO_PIPELINE = Measure("with viewers ÷ pipeline", "≥", 0.95)
PIPELINE_TO_SINGLE = Measure("pipeline ÷ per message", "≥", 100)
FLUSHED_TO_UNDISTURBED = Measure("run with a broker that is flushed ÷ without", "<", 1.5)
LIMITED_CPU_TO_UNLIMITED = Measure("CPU with a rate ÷ without", "≤", 1.15)
MEAN_TO_RATE = Measure("mean ÷ rate", "≥", 0.98)
HIGHEST_SECOND_TO_RATE = Measure("highest second ÷ rate", "≤", 1.1)


def measure_rounds(bench: DatabaseBenchmark) -> None:
    """Measure the pipeline beside its floors and variants, in rounds, and then in single runs."""
    undisturbed: list[PipelineRun] = []
    rows: list[TableRows] = []
    parts: dict[str, Callable[[list[Cost]], None]] = {
        PIPELINE: partial(_run_undisturbed, bench, undisturbed, rows),
        FLOOR: partial(write_floor, bench),
        SCHEMA_FLOOR: partial(write_schema_floor, bench, rows),
        UNRECORDED: partial(_run_variant, bench, UNRECORDED, "--no-record"),
        UNSWEPT: partial(_run_variant, bench, UNSWEPT, "--no-sweep"),
        WATCHED: partial(_run_watched, bench),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in parts}
    for number in range(bench.sizes.rounds):
        for name in order_turn(parts, number):
            if name != WATCHED or number % WATCHED_INTERVAL == 0:
                parts[name](costs[name])
        bench.log(f"round {number + 1} of {bench.sizes.rounds} is done")
    rates = {name: bench.add_throughput(name, bench.sizes.pipeline, costs[name]) for name in parts}
    for measure, first, second in (
        (PIPELINE_TO_FLOOR[bench.database], PIPELINE, FLOOR),
        (PIPELINE_TO_SCHEMA_FLOOR, PIPELINE, SCHEMA_FLOOR),
        (PIPELINE_TO_UNRECORDED, PIPELINE, UNRECORDED),
        (PIPELINE_TO_UNSWEPT, PIPELINE, UNSWEPT),
    ):
        bench.add_line(measure.compare_rates(rates[first], rates[second]))
    bench.add_line(
        WATCHED_TO_PIPELINE.compare_rates(rates[WATCHED], rates[PIPELINE][::WATCHED_INTERVAL])
    )
    _measure_single(bench, rates[PIPELINE])
    _measure_limited(bench, costs[PIPELINE])
    _measure_flush(bench, undisturbed)


def _run_undisturbed(
    bench: DatabaseBenchmark,
    undisturbed: list[PipelineRun],
    rows: list[TableRows],
    costs: list[Cost],
) -> None:
    """Run the pipeline; after the first run, read its rows and judge its customers."""
    with bench.create_database() as url:
        run = run_pipeline(bench, url, PIPELINE)
        if not rows:
            with open_tables(url) as database:
                rows += read_rows(database)
                measure_judging(bench, database)
    undisturbed.append(run)
    costs.append(run.cost)


def _run_variant(bench: DatabaseBenchmark, name: str, option: str, costs: list[Cost]) -> None:
    with bench.create_database() as url:
        costs.append(run_pipeline(bench, url, name, option).cost)


def _run_watched(bench: DatabaseBenchmark, costs: list[Cost]) -> None:
    with (
        bench.create_database() as url,
        serve_live_page(url, bench.folder) as address,
        run_viewers(address),
    ):
        costs.append(run_pipeline(bench, url, WATCHED).cost)


def _measure_single(bench: DatabaseBenchmark, pipeline: Sequence[float]) -> None:
    """Measure a run with one message per task."""
    name, size = "per message", bench.sizes.single
    with bench.create_database() as url:
        run = run_pipeline(bench, url, name, "--batch-size", "1", messages=size)
    [rate] = bench.add_throughput(name, size, [run.cost])
    bench.add_line(PIPELINE_TO_SINGLE.compare_rates(pipeline, [rate] * len(pipeline)))


def _measure_limited(bench: DatabaseBenchmark, unlimited: Sequence[Cost]) -> None:
    """Measure a run whose gateway has a rate."""
    limit = bench.sizes.rate
    name = f"with a rate of {limit:,}/s"
    with bench.create_database() as url:
        run = run_pipeline(bench, url, name, keys=f"gateways.email.rate = {limit}")
        with open_tables(url) as database:
            accepted_at = _read_acceptances(database)
    bench.add_throughput(name, run.messages, [run.cost])
    cpu, others = sum(run.cost.cpu.values()), [sum(cost.cpu.values()) for cost in unlimited]
    micros = 1e6 / run.messages
    bench.add_line(
        LIMITED_CPU_TO_UNLIMITED.make_line(
            [cpu / other for other in others],
            f"{cpu * micros:,.1f} µs",
            f"{median(others) * micros:,.1f} µs",
        )
    )
    mean, highest = summarize_rate(accepted_at)
    for measure, rate in ((MEAN_TO_RATE, mean), (HIGHEST_SECOND_TO_RATE, highest)):
        bench.add_line(measure.compare_rates([rate], [limit]))


def summarize_rate(accepted_at: Sequence[float]) -> tuple[float, float]:
    """Return the mean rate of acceptances and the most in one second, whenever it begins.

    Args:
        accepted_at: their times in seconds, in ascending order.
    """
    times = np.asarray(accepted_at)
    mean = (len(times) - 1) / (times[-1] - times[0])
    ends = np.searchsorted(times, times + 1.0)
    return float(mean), float(np.max(ends - np.arange(len(times))))


def _read_acceptances(database: Database) -> Sequence[float]:
    query = (
        sa.select(transitions.c.at)
        .where(transitions.c.status == Status.IN_GATEWAY)
        .order_by(transitions.c.at)
    )
    with database.read() as connection:
        return [float(to_seconds(at)) for at in connection.scalars(query)]


def _measure_flush(bench: DatabaseBenchmark, undisturbed: Sequence[PipelineRun]) -> None:
    """Compare a run whose broker is flushed half-way with the runs without a fault."""
    half = undisturbed[-1].cost.seconds / 2
    keys = f'faults = [{{ at = "{half:.1f}s", flush = "broker" }}]'
    with bench.create_database() as url:
        flushed = run_pipeline(bench, url, "broker flushed", keys=keys)
        with open_tables(url) as database:
            delay = _read_requeue_delay(database, flushed)
    if not flushed.faults:
        bench.log("the run ended before its broker was flushed; not compared")
        return
    others = [run.command_seconds for run in undisturbed]
    requeued = "" if delay is None else f", re-queued after {delay:.1f} s"
    bench.add_line(
        FLUSHED_TO_UNDISTURBED.make_line(
            [flushed.command_seconds / seconds for seconds in others],
            f"{flushed.command_seconds:,.1f} s{requeued}",
            f"{median(others):,.1f} s",
        )
    )


def _read_requeue_delay(database: Database, run: PipelineRun) -> float | None:
    """Return the seconds from a run's fault to the first re-queued batch; None if none was."""
    with database.read() as connection:
        requeued_at = connection.scalar(
            sa.select(sa.func.min(recoveries.c.sent_at)).where(recoveries.c.times > 0)
        )
        started_at = connection.scalar(sa.select(sa.func.max(runs.c.started_at)))
    if requeued_at is None or started_at is None or not run.faults:
        return None
    return float(to_seconds(requeued_at - started_at) - run.faults[0]["at"])
