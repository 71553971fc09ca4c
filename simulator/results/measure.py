"""The figures of a run, read from the rows in one go."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from simulator import figures
from simulator.figures import (
    RUN_SECONDS,
    THROUGHPUT,
    TIMED_STEPS,
    WORKERS_CPU,
    WORKERS_MEMORY,
    Figures,
)
from simulator.results.prediction_check import GatewayAnomalies
from simulator.results.samples import Sample
from simulator.results.timeseries import Timeseries, make_timeseries
from simulator.setup.record import Run
from simulator.world import ledger
from tracker.clock import Instant, to_real_seconds
from tracker.queries.latencies import (
    QUEUED_TO_GATEWAY,
    SPANS,
    Latencies,
    TransitionTimes,
    read_transition_times,
)
from tracker.queries.report import Report
from tracker.queries.workload import Workload, read_workloads
from tracker.store.schema.work import steps
from workers.queues import QUEUES

MAX_CURVE_POINTS = 300
"""Intervals that curves are drawn with; a longer run has longer ones."""

CURVE_INTERVALS_SECONDS = (
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1_800,
    3_600,
    7_200,
    21_600,
    86_400,
)
"""Seconds that an interval may have."""


@dataclass(frozen=True, kw_only=True)
class RunMeasurements:
    """What a run's rows and samples come to. ``seconds`` are real, from its first step to its
    last; ``curves`` is ``timeseries`` at an interval that fits a picture."""

    seconds: float
    figures: Figures
    workloads: tuple[Workload, ...]
    timeseries: Timeseries
    curves: Timeseries


def measure_run(
    connection: Connection,
    run: Run,
    reports: Sequence[Report],
    mishaps: GatewayAnomalies,
    samples: Sequence[Sample],
) -> RunMeasurements:
    """Measure a run, of which ``mishaps`` are known. Percentiles are exact: every message is in
    them."""
    campaigns = [loaded.campaign for loaded in run.campaigns]
    ids, speed = [campaign.id for campaign in campaigns], run.scenario.clock.speed
    _, ended = _read_step_span(connection, ids)
    seconds = read_elapsed_seconds(connection, run)
    each = [read_transition_times(connection, campaign) for campaign in campaigns]
    passages = TransitionTimes(run.started_at, speed)
    for its in each:
        passages.merge(its)
    workloads = read_workloads(connection, ids, speed)
    found: dict[str, float | None] = {
        RUN_SECONDS: seconds,
        **_common_figures(passages, reports, speed),
        **_gateway_figures(connection, ids, mishaps),
        **dict(_step_figures(workloads)),
        **dict(_sampled_figures(samples)),
    }
    for campaign, report, its in zip(campaigns, reports, each, strict=True):
        # What one campaign has is what the run has, if it has no other.
        own = _common_figures(its, [report], speed) if len(each) > 1 else None
        for name in figures.COMMON_FIGURES:
            found[f"{campaign.name}.{name}"] = found[name] if own is None else own[name]
    rows = int(to_real_seconds(max(0, ended - run.started_at), speed)) + 1
    interval = next(
        (n for n in CURVE_INTERVALS_SECONDS if rows <= n * MAX_CURVE_POINTS),
        CURVE_INTERVALS_SECONDS[-1],
    )
    timeseries = make_timeseries(passages, samples, rows)
    return RunMeasurements(
        seconds=seconds,
        figures={
            name: found[name]
            for name in figures.list_figure_units([each.name for each in campaigns])
        },
        workloads=tuple(workloads),
        timeseries=timeseries,
        curves=(
            timeseries
            if interval == timeseries.interval
            else make_timeseries(passages, samples, rows, interval)
        ),
    )


def read_elapsed_seconds(connection: Connection, run: Run) -> float:
    """Real seconds from a run's first step to its last one so far."""
    began, ended = _read_step_span(connection, [loaded.campaign.id for loaded in run.campaigns])
    return to_real_seconds(ended - began, run.scenario.clock.speed)


def _read_step_span(connection: Connection, ids: Sequence[int]) -> tuple[Instant, Instant]:
    began, ended = connection.execute(
        sa.select(sa.func.min(steps.c.started_at), sa.func.max(steps.c.finished_at)).where(
            steps.c.campaign_id.in_(ids)
        )
    ).one()
    return began or 0, ended or 0


def _common_figures(
    passages: TransitionTimes, reports: Sequence[Report], speed: float
) -> dict[str, float | None]:
    """The figures that a run has, and each of its campaigns."""
    found = {THROUGHPUT: _compute_throughput(passages, speed)}
    found |= dict(figures.add_shares(figures.count_messages(reports)))
    for span in SPANS:
        found |= dict(
            figures.percentile_figures(span.name, Latencies(passages.span_times(span).durations))
        )
    return found


def _compute_throughput(passages: TransitionTimes, speed: float) -> float | None:
    """Messages that the gateway took, a real second, from the first arrival to the last of them."""
    handed = len(passages.span_times(QUEUED_TO_GATEWAY).durations)
    micros = (passages.last_acceptance or 0) - (passages.first_arrival or 0)
    return handed / to_real_seconds(micros, speed) if handed and micros > 0 else None


def _gateway_figures(
    connection: Connection, ids: Sequence[int], mishaps: GatewayAnomalies
) -> dict[str, float | None]:
    return {
        **read_ledger_figures(connection, ids),
        "gateway.duplicate": mishaps.duplicate,
        "gateway.stale": mishaps.stale,
        "gateway.unknown": mishaps.unknown,
        "gateway.lost": mishaps.lost,
        "gateway.late_bounce": mishaps.late_bounce,
    }


def read_ledger_figures(connection: Connection, ids: Sequence[int]) -> dict[str, int]:
    """Return the figures that the simulated gateway's ledger counts."""
    counts = ledger.count_ledger_events(connection, ids)
    return {
        "gateway.repeats": counts.repeats,
        "gateway.refused": counts.refused,
        "gateway.refused_calls": counts.refused_calls,
    }


def _step_figures(workloads: Sequence[Workload]) -> Iterator[tuple[str, float | None]]:
    for workload in workloads:
        if workload.step in TIMED_STEPS:
            name = f"steps.{workload.step}"
            yield f"{name}.tasks", workload.tasks
            yield f"{name}.seconds", workload.service.total_seconds
            yield from figures.percentile_figures(f"{name}.waiting", workload.waiting)
            yield from figures.percentile_figures(f"{name}.service", workload.service)


def _sampled_figures(samples: Sequence[Sample]) -> Iterator[tuple[str, float | None]]:
    """The most that was seen of each."""
    depths = [sample.depths for sample in samples if sample.depths is not None]
    for queue in QUEUES:
        yield f"queues.{queue}.ready", max((each[queue].ready for each in depths), default=None)
        yield f"queues.{queue}.unacked", max((each[queue].unacked for each in depths), default=None)
    usage = [sample.usage for sample in samples if sample.usage is not None]
    yield WORKERS_CPU, max((each.cpu for each in usage), default=None)
    yield WORKERS_MEMORY, max((each.memory for each in usage), default=None)
