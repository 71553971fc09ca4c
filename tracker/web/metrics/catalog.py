"""The metrics that Prometheus reads: names, meanings and labels."""

from enum import Enum

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from tracker.campaign_states import CampaignState

MAX_METRIC_DAYS = 7
"""Days of a campaign that have metrics: each adds series that Prometheus keeps."""

MetricFamily = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily

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
        "Transitions of messages to a status, since the database was created; with the reason if"
        " the status is not_sent. Its rate() is the throughput.",
        ("status", "reason"),
    )
    STEP_SECONDS = (
        "step_seconds",
        "Real seconds that a step took on a batch: a histogram.",
        ("step",),
    )
    WAIT_SECONDS = (
        "wait_seconds",
        "Real seconds for which a step's task waited for a worker, delays left out: a histogram.",
        ("step",),
    )
    FAILED_STEPS = (
        "failed_steps_total",
        "Steps that failed, and that no retry follows.",
        ("step",),
    )
    GATEWAY_CALLS = (
        "gateway_calls_total",
        "Calls of a gateway, by its kind and method.",
        ("gateway", "method"),
    )
    GATEWAY_REFUSALS = (
        "gateway_refusals_total",
        "Messages that a gateway refused when they were submitted.",
        ("gateway",),
    )
    GATEWAY_UNAVAILABLE = (
        "gateway_unavailable_total",
        "Steps that found a gateway unavailable.",
        ("gateway",),
    )
    RECEIPTS = (
        "receipts_total",
        "Receipts by verdict: applied, or the reason why they were refused, each counted once.",
        ("verdict",),
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
        "Tasks that failed without a retry in the last 15 minutes, among the last 200 failures.",
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
    DISK_FREE = (
        "disk_free_bytes",
        "Free bytes of a disk that has the state folder or the SQLite database.",
        ("path",),
    )
    DISK_SIZE = "disk_size_bytes", "Bytes of such a disk in all.", ("path",)
    DISK_FULL = (
        "disk_full",
        "1 if such a disk is full, or an error of the database or the broker says so, else 0.",
    )
    LAST_SWEEP = (
        "sweep_timestamp_seconds",
        "Time at which beat's last sweep began; absent if none did for a day.",
    )
    DATABASE_UP = ("database_up", "1 if the database can be read and written, else 0.")
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

    def make_histogram(self) -> HistogramMetricFamily:
        """Return a histogram without values."""
        return HistogramMetricFamily(self.full_name, self.help, labels=self.labels)

    def make_value(self, value: float) -> GaugeMetricFamily:
        """Return a gauge with one value and no labels."""
        return GaugeMetricFamily(self.full_name, self.help, value=float(value))
