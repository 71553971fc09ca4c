"""Measure a run: read its figures from the recorded rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from simulator import figures
from simulator.figures import (
    PERCENTILES,
    RUN_SECONDS,
    THROUGHPUT,
    TIMED_STEPS,
    WORKERS_CPU,
    WORKERS_MEMORY,
    Figures,
)
from simulator.results.anomalies import GatewayAnomalies
from simulator.results.limits.sending import SendingPhase, read_sending_phase
from simulator.results.observations import RunObservations, Sample
from simulator.results.timeseries import Timeseries, make_timeseries
from simulator.setup.run import Run
from simulator.world import ledger
from tracker.clock import Instant, to_real_seconds
from tracker.queries.durations.latencies import (
    GATEWAY_TO_OUTCOME,
    QUEUED_TO_GATEWAY,
    SPANS,
    Latencies,
    Span,
    TransitionTimes,
    read_transition_times,
)
from tracker.queries.durations.workload import Workload, read_workloads
from tracker.queries.report import Report
from tracker.record.check_times import CheckTime, sum_check_times
from tracker.store.schema.work import steps
from workers.queues import QUEUES

MAX_CURVE_POINTS = 300
"""Intervals that a chart shows; a longer run has longer intervals."""

CURVE_INTERVALS_SECONDS = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400,
)  # fmt: skip

BATCH_SPANS = tuple(span for span in SPANS if span is not GATEWAY_TO_OUTCOME)
"""Spans that end at an instant that whole batches may share; outcomes have one each."""


@dataclass(frozen=True, kw_only=True)
class RunMeasurements:
    """The figures of a run, and their course.

    Attributes:
        seconds: real seconds from the first step to the last.
        sending: from the first arrival to the last acceptance; None if nothing was accepted.
        batch_spans: spans whose percentiles coincide because whole batches share an instant.
        curves: the time series at an interval that suits a chart.
    """

    seconds: float
    figures: Figures
    sending: SendingPhase | None
    batch_spans: tuple[Span, ...]
    workloads: tuple[Workload, ...]
    check_times: Mapping[str, CheckTime]
    timeseries: Timeseries
    curves: Timeseries


def measure_run(
    connection: Connection,
    run: Run,
    reports: Sequence[Report],
    anomalies: GatewayAnomalies,
    observations: RunObservations,
) -> RunMeasurements:
    """Measure a run. Percentiles are exact: they include every message.

    Args:
        observations: with the samples. If some are missing, the largest sample is unknown.
    """
    samples = observations.samples
    campaigns = run.recorded_campaigns
    ids, speed = run.campaign_ids, run.scenario.clock.speed
    began_at, ended_at = _read_step_span(connection, ids)
    seconds = to_real_seconds(ended_at - began_at, speed)
    campaign_times = [read_transition_times(connection, campaign) for campaign in campaigns]
    times = TransitionTimes(run.started_at, speed)
    for own_times in campaign_times:
        times.merge(own_times)
    percentiles, batch_spans = _measure_spans(times)
    workloads = read_workloads(connection, ids, speed)
    check_times = sum_check_times(connection, ids)
    common = _common_figures(times, percentiles, reports, speed)
    values: dict[str, float | None] = {
        RUN_SECONDS: seconds,
        **(common | run.import_figures),
        **read_ledger_figures(connection, ids),
        **_anomaly_figures(anomalies),
        **dict(_step_figures(workloads)),
        **dict(_sampled_figures(samples if observations.is_known else ())),
    }
    for campaign, report, own_times in zip(campaigns, reports, campaign_times, strict=True):
        # The figures of a single campaign are those of the run.
        own = common if len(campaigns) == 1 else _measure_campaign(own_times, report, speed)
        values |= {f"{campaign.name}.{name}": own[name] for name in figures.COMMON_FIGURES}
    row_count = int(to_real_seconds(max(0, ended_at - run.started_at), speed)) + 1
    timeseries = make_timeseries(times, samples, row_count)
    names = figures.list_figure_units([campaign.name for campaign in campaigns])
    return RunMeasurements(
        seconds=seconds,
        figures={name: values[name] for name in names},
        sending=read_sending_phase(connection, run, times, campaign_times, check_times),
        batch_spans=batch_spans,
        workloads=tuple(workloads),
        check_times=check_times,
        timeseries=timeseries,
        curves=_make_curves(timeseries, times, samples, row_count),
    )


def _make_curves(
    timeseries: Timeseries, times: TransitionTimes, samples: Sequence[Sample], row_count: int
) -> Timeseries:
    """Return the time series at an interval that suits a chart."""
    interval = _choose_interval(row_count)
    if interval == timeseries.interval:
        return timeseries
    return make_timeseries(times, samples, row_count, interval)


def _choose_interval(row_count: int) -> int:
    """Return the seconds of an interval in a chart of some seconds."""
    suitable = (
        seconds for seconds in CURVE_INTERVALS_SECONDS if row_count <= seconds * MAX_CURVE_POINTS
    )
    return next(suitable, CURVE_INTERVALS_SECONDS[-1])


def _measure_spans(times: TransitionTimes) -> tuple[dict[str, float | None], tuple[Span, ...]]:
    """Return the percentiles of all spans, and the spans whose percentiles coincide.

    They coincide because whole batches share an instant. One span is measured at a time, to limit
    the memory.
    """
    values: dict[str, float | None] = {}
    batch_spans = []
    for span in SPANS:
        latencies = Latencies(times.span_times(span).durations)
        values |= dict(figures.percentile_figures(span.name, latencies))
        if span in BATCH_SPANS and latencies.has_coinciding_percentiles(PERCENTILES.values()):
            batch_spans.append(span)
    return values, tuple(batch_spans)


def read_elapsed_seconds(connection: Connection, run: Run) -> float:
    """Return the real seconds from a run's first step to its last one so far."""
    began, ended = _read_step_span(connection, run.campaign_ids)
    return to_real_seconds(ended - began, run.scenario.clock.speed)


def _read_step_span(connection: Connection, ids: Sequence[int]) -> tuple[Instant, Instant]:
    began, ended = connection.execute(
        sa.select(sa.func.min(steps.c.started_at), sa.func.max(steps.c.finished_at)).where(
            steps.c.campaign_id.in_(ids)
        )
    ).one()
    return began or 0, ended or 0


def _common_figures(
    times: TransitionTimes,
    percentiles: Mapping[str, float | None],
    reports: Sequence[Report],
    speed: float,
) -> dict[str, float | None]:
    """Return the figures that both a run and each of its campaigns have."""
    return {
        THROUGHPUT: _compute_throughput(times, speed),
        **dict(figures.add_shares(figures.count_messages(reports))),
        **percentiles,
    }


def _measure_campaign(
    times: TransitionTimes, report: Report, speed: float
) -> dict[str, float | None]:
    percentiles, _ = _measure_spans(times)
    return _common_figures(times, percentiles, [report], speed)


def _compute_throughput(times: TransitionTimes, speed: float) -> float | None:
    """Return messages accepted per real second, from first arrival to last acceptance."""
    handed = len(times.span_times(QUEUED_TO_GATEWAY).durations)
    micros = (times.last_acceptance or 0) - (times.first_arrival or 0)
    return handed / to_real_seconds(micros, speed) if handed and micros > 0 else None


def read_ledger_figures(connection: Connection, ids: Sequence[int]) -> dict[str, int]:
    """Return the figures that the simulated gateway's ledger counts."""
    counts = asdict(ledger.count_ledger_events(connection, ids))
    return {f"gateway.{name}": count for name, count in counts.items()}


def _anomaly_figures(anomalies: GatewayAnomalies) -> dict[str, int]:
    return {
        "gateway.duplicate": anomalies.duplicate,
        "gateway.stale": anomalies.stale,
        "gateway.unknown": anomalies.unknown,
        "gateway.lost": anomalies.lost,
        "gateway.late_bounce": anomalies.late_bounce,
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
    """Yield the largest sampled value of each figure."""
    depths = [sample.depths for sample in samples if sample.depths is not None]
    for queue in QUEUES:
        yield f"queues.{queue}.ready", max((depth[queue].ready for depth in depths), default=None)
        yield (
            f"queues.{queue}.unacked",
            max((depth[queue].unacked for depth in depths), default=None),
        )
    usage = [sample.usage for sample in samples if sample.usage is not None]
    yield WORKERS_CPU, max((sample.cpu for sample in usage), default=None)
    yield WORKERS_MEMORY, max((sample.memory for sample in usage), default=None)
