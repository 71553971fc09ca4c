"""The pipeline beside its floor and its variants, in rounds."""

from statistics import median

import sqlalchemy as sa

from benchmarks import floor
from benchmarks.context import DatabaseBenchmark
from benchmarks.databases import open_tables
from benchmarks.judging import measure_judging
from benchmarks.measures import Measure
from benchmarks.pipeline import PipelineMeasurement, run_pipeline, serve_live_page
from benchmarks.reports import measure_report
from benchmarks.timing import time_call
from benchmarks.viewers import VIEWER_COUNT, run_viewers
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from tracker.clock import to_seconds
from tracker.store.database import Database
from tracker.store.schema.catalog import runs
from tracker.store.schema.work import recoveries

PIPELINE_TO_FLOOR = Measure("pipeline ÷ floor", at_least=0.35)
PIPELINE_TO_UNRECORDED = Measure("pipeline ÷ without recording", at_least=0.95)
PIPELINE_TO_UNSWEPT = Measure("pipeline ÷ without sweep", at_least=0.97)
WATCHED_TO_PIPELINE = Measure(f"pipeline with {VIEWER_COUNT} viewers ÷ without", at_least=0.95)
PIPELINE_TO_SINGLE = Measure("pipeline ÷ per message", at_least=100)
FLUSHED_TO_UNDISTURBED = Measure("run with a broker that is flushed ÷ without", below=1.5)


def measure_throughput(bench: DatabaseBenchmark) -> None:
    """Measure the pipeline beside its floor and variants, in rounds, and with a flushed broker."""
    runs, rounds = [], []
    for number in range(1, bench.sizes["rounds"] + 1):
        run, throughputs = _measure_round(bench, is_first=number == 1)
        runs.append(run)
        rounds.append(throughputs)
        rates = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in throughputs.items())
        bench.log(f"round {number} of {bench.sizes['rounds']}: {rates}")
    bench.figures["rounds"] = rounds
    single = _measure_single(bench)
    medians = {name: median(rates[name] for rates in rounds) for name in rounds[0]}
    pipeline = medians["pipeline"]
    for line in (
        PIPELINE_TO_FLOOR.compare_rates(pipeline, medians["floor"]),
        PIPELINE_TO_UNRECORDED.compare_rates(pipeline, medians["unrecorded"]),
        PIPELINE_TO_UNSWEPT.compare_rates(pipeline, medians["unswept"]),
        WATCHED_TO_PIPELINE.compare_rates(medians["watched"], pipeline),
        PIPELINE_TO_SINGLE.compare_rates(pipeline, single),
    ):
        bench.add_line(line)
    _measure_flush(bench, runs)


def _measure_round(
    bench: DatabaseBenchmark, *, is_first: bool
) -> tuple[PipelineMeasurement, dict[str, float]]:
    """Return the pipeline's run and the messages per second of pipeline, variants and floor.

    They take turns, so that whatever else slows the machine slows all of them.
    """
    size = bench.sizes["pipeline"]
    with bench.create_database() as url:
        run = run_pipeline(url, bench.folder, size)
        with open_tables(url) as database:
            rows = floor.read_rows(database, DEFAULT_BATCH_SIZE)
            if is_first:
                measure_judging(bench, database)
                measure_report(bench, database)
    throughputs = {"pipeline": run.throughput}
    for name, option in (("unrecorded", "--no-record"), ("unswept", "--no-sweep")):
        with bench.create_database() as url:
            throughputs[name] = run_pipeline(url, bench.folder, size, option).throughput
    with (
        bench.create_database() as url,
        serve_live_page(url, bench.folder) as address,
        run_viewers(address),
    ):
        throughputs["watched"] = run_pipeline(url, bench.folder, size).throughput
    with bench.create_database() as url, open_tables(url) as database:
        throughputs["floor"] = size / time_call(lambda: floor.write_rows(database, rows))
    return run, throughputs


def _measure_single(bench: DatabaseBenchmark) -> float:
    with bench.create_database() as url:
        run = run_pipeline(url, bench.folder, bench.sizes["single"], batch_size=1)
    bench.figures["single"] = run.as_json()
    return run.throughput


def _measure_flush(bench: DatabaseBenchmark, undisturbed: list[PipelineMeasurement]) -> None:
    """Compare a run whose broker is flushed half-way with the runs without a fault."""
    run = undisturbed[-1]
    fault = f'{{ at = "{run.seconds / 2:.1f}s", flush = "broker" }}'
    with bench.create_database() as url:
        flushed = run_pipeline(url, bench.folder, run.messages, faults=fault)
        with open_tables(url) as database:
            delay = _read_requeue_delay(database, flushed)
    bench.figures["undisturbed"] = run.as_json()
    bench.figures["flushed"] = flushed.as_json()
    bench.figures["went_on_after"] = delay
    if not flushed.faults:
        bench.log("the run ended before its broker was flushed; not compared")
        return
    seconds = median(other.command_seconds for other in undisturbed)
    requeued = "" if delay is None else f", re-queued after {delay:.1f} s"
    bench.add_line(
        FLUSHED_TO_UNDISTURBED.make_line(
            flushed.command_seconds / seconds,
            f"{flushed.command_seconds:,.1f} s{requeued}",
            f"{seconds:,.1f} s",
        )
    )


def _read_requeue_delay(database: Database, run: PipelineMeasurement) -> float | None:
    """Return the seconds from a run's fault to the first re-queued batch; None if none was."""
    with database.read() as connection:
        requeued_at = connection.scalar(
            sa.select(sa.func.min(recoveries.c.sent_at)).where(recoveries.c.times > 0)
        )
        started_at = connection.scalar(sa.select(sa.func.max(runs.c.started_at)))
    if requeued_at is None or started_at is None or not run.faults:
        return None
    return float(to_seconds(requeued_at - started_at) - run.faults[0]["at"])
