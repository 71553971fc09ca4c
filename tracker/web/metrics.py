"""What Prometheus reads: the shared numbers, in its words.

Nothing here looks at the database: a reading is as old as the last look at it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from tracker.clock import to_seconds
from tracker.monitoring import WorkerActivity
from tracker.queries.report import Report
from tracker.status import LEGAL_TRANSITIONS, Reason, Status
from tracker.web.context import WebContext

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render_metrics(desk: WebContext) -> bytes:
    """All metrics, as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_SnapshotCollector(desk))
    return bytes(generate_latest(registry))


class _SnapshotCollector(Collector):
    """Turns the latest numbers into metrics."""

    def __init__(self, desk: WebContext) -> None:
        self._context = desk

    def collect(self) -> Iterator[Any]:
        snapshot = self._context.live.snapshot
        yield _CampaignGauge(
            "database_up", "Whether the last look at the database succeeded."
        ).value(snapshot.trouble is None)
        if snapshot.at is not None:
            yield _CampaignGauge("read_timestamp_seconds", "When the record was last read.").value(
                snapshot.at.timestamp()
            )
        reports = list(snapshot.reports.values())
        yield from _collect_campaigns(reports)
        standing = _CampaignGauge(
            "batches_standing_still",
            "Batches with work left that nobody is at, and that wait for nothing.",
            "campaign",
            "run",
        )
        for report in reports:
            standing.add(report, snapshot.stalled_counts[report.campaign.id])
        yield standing.family
        ages = _CampaignGauge(
            "oldest_message_seconds",
            "How long the first message of the first batch that has any in a stage has been there.",
            "stage",
        )
        for stage, seconds in snapshot.ages.items():
            ages.family.add_metric([stage], seconds)
        yield ages.family
        if snapshot.recovered_at is not None:
            yield _CampaignGauge(
                "recovery_timestamp_seconds", "When a batch that stood still was last sent on."
            ).value(to_seconds(snapshot.recovered_at))
        yield from self._collect_broker()

    def _collect_broker(self) -> Iterator[Any]:
        outside = self._context.outside
        if outside.depths is None:
            return
        depths = self._context.live.snapshot.depths
        yield _CampaignGauge("broker_up", "Whether the broker said how deep its queues are.").value(
            depths is not None
        )
        tasks = _CampaignGauge(
            "queue_tasks", "Tasks in a queue: to be taken, or held by workers.", "queue", "state"
        )
        for queue, depth in (depths or {}).items():
            for state, count in depth._asdict().items():
                tasks.family.add_metric([queue, state], count)
        yield tasks.family
        if outside.presence is not None:
            yield from _collect_workers(outside.presence(), outside.queues)


def _collect_workers(seen: WorkerActivity, queues: Sequence[str]) -> Iterator[Any]:
    states = Counter("there" if each.is_online else "silent" for each in seen.workers)
    workers = _CampaignGauge("workers", "Workers by whether they have been heard lately.", "state")
    for state in ("there", "silent"):
        workers.family.add_metric([state], states[state])
    yield workers.family
    served = Counter(queue for each in seen.workers if each.is_online for queue in each.queues)
    serving = _CampaignGauge("queue_workers", "Workers that serve a queue.", "queue")
    for queue in queues:
        serving.family.add_metric([queue], served[queue])
    yield serving.family
    failed = _CampaignGauge("recent_failures", "Tasks among the last failures that were given up.")
    yield failed.value(sum(not each.will_retry for each in seen.failed))


def _collect_campaigns(reports: Sequence[Report]) -> Iterator[Any]:
    """The latest campaigns, and those that somebody looks at."""
    of_messages = ("campaign", "run", "channel")
    messages = _CampaignGauge(
        "messages", "Messages by what the record says of them.", *of_messages, "status"
    )
    not_sent = _CampaignGauge("not_sent", "Messages Not Sent, by reason.", *of_messages, "reason")
    entered = CounterMetricFamily(
        "sendtrace_transitions",
        "Messages that have come into a status at least once, however far they are by now.",
        labels=["campaign", "run", "status"],
    )
    rolled_up = _CampaignGauge(
        "rollup_timestamp_seconds",
        "When engagement was last rolled up, by the clock of the run.",
        "campaign",
        "run",
    )
    for report in reports:
        campaign = report.campaign
        whose = [campaign.name, str(campaign.run_id), str(campaign.channel)]
        for status in Status:
            messages.family.add_metric([*whose, status.slug], report.having(status))
            entered.add_metric([*whose[:2], status.slug], _count_entered(report, status))
        for reason in Reason:
            count = report.having(Status.NOT_SENT, reason)
            if count:
                not_sent.family.add_metric([*whose, reason.slug], count)
        if report.engagement_as_of is not None:
            rolled_up.add(report, to_seconds(report.engagement_as_of))
    yield from (messages.family, not_sent.family, entered, rolled_up.family)


def _count_entered(report: Report, status: Status) -> int:
    """How many messages have been in a status, as far as where they are now says so: those there,
    and those in any that can't be reached but through it."""
    return sum(report.having(each) for each in Status if status in _REQUIRED_STATUSES[each])


def _required_statuses(status: Status) -> frozenset[Status]:
    """The statuses through which every way to ``status`` leads, itself among them."""
    return frozenset(each for each in Status if not _can_reach(status, without=each))


def _can_reach(status: Status, *, without: Status) -> bool:
    seen, frontier = (
        set[Status](),
        [each for each in LEGAL_TRANSITIONS[None] if each is not without],
    )
    while frontier:
        each = frontier.pop()
        seen.add(each)
        frontier += [after for after in LEGAL_TRANSITIONS[each] - seen if after is not without]
    return status in seen


_REQUIRED_STATUSES = {status: _required_statuses(status) for status in Status}


class _CampaignGauge:
    """A gauge of ours."""

    def __init__(self, name: str, told: str, *labels: str) -> None:
        self.family = GaugeMetricFamily(f"sendtrace_{name}", told, labels=list(labels))

    def value(self, value: float) -> GaugeMetricFamily:
        self.family.add_metric([], float(value))
        return self.family

    def add(self, report: Report, value: float) -> None:
        """A value of a campaign, by its name and run."""
        self.family.add_metric([report.campaign.name, str(report.campaign.run_id)], value)
