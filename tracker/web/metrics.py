"""The metrics for Prometheus, made from the latest snapshot.

A scrape makes no query: its numbers are as old as the snapshot.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.responses import Response

from tracker.campaign_states import CampaignState
from tracker.clock import to_seconds
from tracker.monitoring import QueueDepth, WorkerActivity
from tracker.queries.report import REPORTED_ENGAGEMENTS, Report
from tracker.status import LEGAL_TRANSITIONS, Reason, Status
from tracker.web.context import Context, WebContext
from tracker.web.live import Snapshot

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

MAX_METRIC_DAYS = 7
"""Days of a campaign that have metrics: each adds series that Prometheus keeps."""

MetricFamily = GaugeMetricFamily | CounterMetricFamily

RUN_LABELS = ("campaign", "run")
CAMPAIGN_LABELS = (*RUN_LABELS, "channel")


class Metric(Enum):
    """A metric that Prometheus reads, in the order of docs/metrics.md.

    Attributes:
        full_name: the name; that of a counter ends in `_total`.
        help: its meaning, as it stands in the exposition and in docs/metrics.md.
        labels: the names of its labels.
    """

    MESSAGES = "messages", "Messages by their current status.", (*CAMPAIGN_LABELS, "status")
    NOT_SENT = "not_sent", "Messages Not Sent, by reason.", (*CAMPAIGN_LABELS, "reason")
    CAMPAIGN_STATE = (
        "campaign_state",
        f"1 for the state of a campaign, 0 for the others: {', '.join(CampaignState)}.",
        (*CAMPAIGN_LABELS, "state"),
    )
    SCHEDULED = "scheduled", "Customers whose message hasn't been queued yet.", CAMPAIGN_LABELS
    DEFERRED = (
        "deferred",
        "Queued messages that a rule deferred; a part of those with the status queued.",
        CAMPAIGN_LABELS,
    )
    UNCONFIRMED = (
        "unconfirmed",
        "Messages that were handed over without a reply; a part of those with the status"
        " in_gateway.",
        CAMPAIGN_LABELS,
    )
    TRANSITIONS = (
        "transitions_total",
        "Messages that have entered a status at least once. Its rate() is the throughput.",
        (*RUN_LABELS, "status"),
    )
    QUEUE_TASKS = (
        "queue_tasks",
        "Tasks of a queue: ready for a worker, or unacked (held by a worker).",
        ("queue", "state"),
    )
    OLDEST_MESSAGE = (
        "oldest_message_seconds",
        "Real seconds since the oldest message of a stage entered it.",
        ("stage",),
    )
    STALLED_BATCHES = (
        "batches_standing_still",
        "Stalled batches: they need a step, and no task does it.",
        RUN_LABELS,
    )
    LAST_REQUEUE = (
        "recovery_timestamp_seconds",
        "Time at which the sweep last re-queued a stalled batch; absent if it never did.",
    )
    WORKERS = ("workers", "Workers: there (their heartbeats arrive), or silent.", ("state",))
    QUEUE_WORKERS = ("queue_workers", "Workers that serve a queue.", ("queue",))
    RECENT_FAILURES = (
        "recent_failures",
        "Tasks that failed without a retry, among the last 200 failures.",
    )
    LAST_ROLLUP = (
        "rollup_timestamp_seconds",
        "Time of a campaign's last engagement rollup, by the clock of its run;"
        " in real time once the run is over.",
        RUN_LABELS,
    )
    DAILY_ROLLUP = (
        "daily_rollup_timestamp_seconds",
        "Real time at which beat's daily rollup last ran; absent if it never did.",
    )
    ENGAGEMENT_DAYS = (
        "engagement_day_recipients",
        "Recipients by kind of engagement and local day, as of the last rollup;"
        f" the latest {MAX_METRIC_DAYS} days of each campaign.",
        ("campaign", "run", "kind", "day"),
    )
    CHECK_SECONDS = (
        "check_seconds_total",
        "Real seconds that a check took."
        " Steps whose checks took less than a millisecond in total aren't counted.",
        (*RUN_LABELS, "check"),
    )
    CHECK_CALLS = (
        "check_calls_total",
        "Messages that the rule of a check judged, counted in the same steps as its seconds.",
        (*RUN_LABELS, "check"),
    )
    DATABASE_UP = ("database_up", "1 if the database answered the last query, else 0.")
    BROKER_UP = ("broker_up", "1 if the broker answered the last query, else 0.")
    LAST_READ = ("read_timestamp_seconds", "Time at which the database was last read.")

    def __init__(self, name: str, help: str, labels: tuple[str, ...] = ()) -> None:
        self.full_name, self.help, self.labels = f"sendtrace_{name}", help, labels

    def make_gauge(self) -> GaugeMetricFamily:
        """Return a gauge without values."""
        return GaugeMetricFamily(self.full_name, self.help, labels=self.labels)

    def make_counter(self) -> CounterMetricFamily:
        """Return a counter without values."""
        return CounterMetricFamily(self.full_name, self.help, labels=self.labels)

    def make_value(self, value: float) -> GaugeMetricFamily:
        """Return a gauge with one value and no labels."""
        return GaugeMetricFamily(self.full_name, self.help, value=float(value))


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
        yield Metric.DATABASE_UP.make_value(snapshot.database_error is None)
        if snapshot.at is not None:
            yield Metric.LAST_READ.make_value(snapshot.at.timestamp())
        reports = list(snapshot.reports.values())
        yield from _collect_messages(reports)
        yield from _collect_days(reports)
        yield from _collect_stalled_work(snapshot)
        yield from _collect_check_times(snapshot)
        if monitoring.read_queue_depths is None:
            return
        yield from _collect_queues(snapshot.queue_depths)
        if monitoring.read_worker_activity is not None:
            yield from _collect_workers(monitoring.read_worker_activity(), monitoring.queues)


def _collect_messages(reports: Sequence[Report]) -> Iterator[MetricFamily]:
    messages, not_sent = Metric.MESSAGES.make_gauge(), Metric.NOT_SENT.make_gauge()
    states, scheduled = Metric.CAMPAIGN_STATE.make_gauge(), Metric.SCHEDULED.make_gauge()
    deferred, unconfirmed = Metric.DEFERRED.make_gauge(), Metric.UNCONFIRMED.make_gauge()
    transitions, last_rollup = Metric.TRANSITIONS.make_counter(), Metric.LAST_ROLLUP.make_gauge()
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
            transitions.add_metric([*campaign_run, status.slug], _count_entered(report, status))
        for reason in Reason:
            count = report.count_messages(Status.NOT_SENT, reason)
            if count:
                not_sent.add_metric([*labels, reason.slug], count)
        if report.engagement_as_of is not None:
            last_rollup.add_metric(campaign_run, to_seconds(report.engagement_as_of))
    yield from (messages, not_sent, states, scheduled, deferred, unconfirmed)
    yield from (transitions, last_rollup)


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


def _required_statuses(status: Status) -> frozenset[Status]:
    """Return the statuses that every path to a status leads through, itself included."""
    return frozenset(required for required in Status if not _can_reach(status, without=required))


def _can_reach(target: Status, *, without: Status) -> bool:
    reached, frontier = set[Status](), set(LEGAL_TRANSITIONS[None]) - {without}
    while frontier:
        reached |= frontier
        successors = {after for status in frontier for after in LEGAL_TRANSITIONS[status]}
        frontier = successors - reached - {without}
    return target in reached


_REQUIRED_STATUSES = {status: _required_statuses(status) for status in Status}


def _count_entered(report: Report, status: Status) -> int:
    """Return how many messages have certainly entered a status.

    The tallies hold current statuses only: counted are the messages in the status, and those in
    statuses that no message reaches without it.
    """
    return sum(
        report.count_messages(current)
        for current in Status
        if status in _REQUIRED_STATUSES[current]
    )
