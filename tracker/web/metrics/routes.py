"""The metrics for Prometheus, made from the latest snapshot.

A scrape makes no query: its numbers are as old as the snapshot.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response

from tracker.campaign_states import CampaignState
from tracker.clock import to_seconds
from tracker.monitoring import QueueDepth, WorkerActivity
from tracker.queries.report import REPORTED_ENGAGEMENTS, Report
from tracker.status import Reason, Status
from tracker.web.context import Context, WebContext
from tracker.web.health.judge import Condition, Part
from tracker.web.health.watch import HealthWatch
from tracker.web.live import Snapshot
from tracker.web.metrics.catalog import MAX_METRIC_DAYS, Metric, MetricFamily
from tracker.web.metrics.counters import collect_counters

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(include_in_schema=False)


@router.get("/metrics")
def get_metrics(context: Context) -> Response:
    """Return all metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_SnapshotCollector(context))
    return Response(generate_latest(registry), media_type=METRICS_CONTENT_TYPE)


class _SnapshotCollector(Collector):
    """A collector that turns the latest snapshot into metrics."""

    def __init__(self, context: WebContext) -> None:
        self._context = context

    def collect(self) -> Iterator[MetricFamily]:
        snapshot, monitoring = self._context.live.snapshot, self._context.monitoring
        yield Metric.DATABASE_UP.make_value(_is_database_up(snapshot))
        yield Metric.DISK_FULL.make_value(_is_down(snapshot, Part.DISK))
        if snapshot.at is not None:
            yield Metric.LAST_READ.make_value(snapshot.at.timestamp())
        yield from _collect_health(self._context.health_watch)
        reports = list(snapshot.reports.values())
        yield from _collect_messages(reports)
        yield from _collect_days(reports)
        yield from _collect_stalled_work(snapshot)
        yield from _collect_check_times(snapshot)
        yield from collect_counters(snapshot.stalled.counters)
        if monitoring.read_queue_depths is None:
            return
        yield from _collect_queues(snapshot.queue_depths)
        if monitoring.read_worker_activity is not None:
            yield from _collect_workers(monitoring.read_worker_activity(), monitoring.queues)


def _is_database_up(snapshot: Snapshot) -> bool:
    return snapshot.database_error is None and not _is_down(snapshot, Part.DATABASE)


def _is_down(snapshot: Snapshot, part: Part) -> bool:
    health = snapshot.health
    return health is not None and health.parts[part].condition is Condition.DOWN


def _collect_health(watch: HealthWatch) -> Iterator[MetricFamily]:
    free, size = Metric.DISK_FREE.make_gauge(), Metric.DISK_SIZE.make_gauge()
    for disk in watch.disks:
        free.add_metric([disk.path], disk.free)
        size.add_metric([disk.path], disk.total)
    yield from (free, size)
    if watch.last_sweep_at is not None:
        yield Metric.LAST_SWEEP.make_value(watch.last_sweep_at.timestamp())


def _collect_messages(reports: Sequence[Report]) -> Iterator[MetricFamily]:
    messages, not_sent = Metric.MESSAGES.make_gauge(), Metric.NOT_SENT.make_gauge()
    states, scheduled = Metric.CAMPAIGN_STATE.make_gauge(), Metric.SCHEDULED.make_gauge()
    deferred, unconfirmed = Metric.DEFERRED.make_gauge(), Metric.UNCONFIRMED.make_gauge()
    last_rollup = Metric.LAST_ROLLUP.make_gauge()
    for report in reports:
        campaign_run = _campaign_labels(report)
        labels = [*campaign_run, str(report.campaign.channel)]
        for state in CampaignState:
            states.add_metric([*labels, state], state is report.state)
        scheduled.add_metric(labels, report.scheduled)
        deferred.add_metric(labels, report.deferred)
        unconfirmed.add_metric(labels, report.unconfirmed)
        for status in Status:
            messages.add_metric([*labels, status.slug], report.count_messages(status))
        for reason in Reason:
            count = report.count_messages(Status.NOT_SENT, reason)
            if count:
                not_sent.add_metric([*labels, reason.slug], count)
        if report.engagement_as_of is not None:
            last_rollup.add_metric(campaign_run, to_seconds(report.engagement_as_of))
    yield from (messages, not_sent, states, scheduled, deferred, unconfirmed, last_rollup)


def _collect_days(reports: Sequence[Report]) -> Iterator[MetricFamily]:
    recipients = Metric.ENGAGEMENT_DAYS.make_gauge()
    for report in reports:
        for day, counts in list(report.engagement_days.items())[-MAX_METRIC_DAYS:]:
            for kind in REPORTED_ENGAGEMENTS:
                labels = [*_campaign_labels(report), kind.slug, day]
                recipients.add_metric(labels, counts[kind])
    yield recipients


def _collect_stalled_work(snapshot: Snapshot) -> Iterator[MetricFamily]:
    stalled = Metric.STALLED_BATCHES.make_gauge()
    for campaign_id, report in snapshot.reports.items():
        stalled.add_metric(_campaign_labels(report), snapshot.stalled_counts[campaign_id])
    yield stalled
    oldest_message = Metric.OLDEST_MESSAGE.make_gauge()
    for stage, seconds in snapshot.stalled.oldest_ages.items():
        oldest_message.add_metric([stage], seconds)
    yield oldest_message
    if snapshot.stalled.requeued_at is not None:
        yield Metric.LAST_REQUEUE.make_value(to_seconds(snapshot.stalled.requeued_at))
    if snapshot.stalled.daily_rollup_at is not None:
        yield Metric.DAILY_ROLLUP.make_value(to_seconds(snapshot.stalled.daily_rollup_at))


def _collect_check_times(snapshot: Snapshot) -> Iterator[MetricFamily]:
    seconds, calls = Metric.CHECK_SECONDS.make_counter(), Metric.CHECK_CALLS.make_counter()
    for campaign_id, times in snapshot.stalled.check_times.items():
        for name, time in times.items() if campaign_id in snapshot.reports else ():
            labels = [*_campaign_labels(snapshot.reports[campaign_id]), name]
            seconds.add_metric(labels, time.seconds)
            calls.add_metric(labels, time.calls)
    yield from (seconds, calls)


def _collect_queues(depths: Mapping[str, QueueDepth] | None) -> Iterator[MetricFamily]:
    yield Metric.BROKER_UP.make_value(depths is not None)
    tasks = Metric.QUEUE_TASKS.make_gauge()
    for queue, depth in (depths or {}).items():
        tasks.add_metric([queue, "ready"], depth.ready)
        tasks.add_metric([queue, "unacked"], depth.unacked)
    yield tasks


def _collect_workers(activity: WorkerActivity, queues: Sequence[str]) -> Iterator[MetricFamily]:
    online = [worker for worker in activity.workers if worker.is_online]
    workers = Metric.WORKERS.make_gauge()
    workers.add_metric(["there"], len(online))
    workers.add_metric(["silent"], len(activity.workers) - len(online))
    yield workers
    workers_by_queue = Counter(queue for worker in online for queue in worker.queues)
    queue_workers = Metric.QUEUE_WORKERS.make_gauge()
    for queue in queues:
        queue_workers.add_metric([queue], workers_by_queue[queue])
    yield queue_workers
    yield Metric.RECENT_FAILURES.make_value(sum(not task.will_retry for task in activity.failed))


def _campaign_labels(report: Report) -> list[str]:
    return [report.campaign.name, str(report.campaign.run_id)]
