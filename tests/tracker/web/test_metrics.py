"""The metrics for Prometheus, and the alerts on them."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from tests.support.engagement import OPENED, deliver_all, record_events
from tests.support.factory import AUTHOR, Plan, make_batch, make_busy_batch, make_campaign
from tests.support.paths import ROOT
from tests.support.states import old_server, silence_driver
from tests.support.web import HOSTILE, live_page_client
from tracker.campaign_states import CampaignState
from tracker.clock import SystemClock, from_datetime, to_seconds
from tracker.monitoring import FailedTask, QueueDepth, WorkerActivity, WorkerInfo
from tracker.queries.report import make_reports
from tracker.record.catalog import Batch
from tracker.record.check_times import CheckTime
from tracker.record.engagement import EngagementEvent
from tracker.record.journal import open_entry
from tracker.record.monitoring.counters import CounterName, Counters, record_counters
from tracker.record.rollup import record_daily_rollup, roll_up_engagement
from tracker.settings import Settings
from tracker.status import Category, Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import transitions
from tracker.store.schema.work import recoveries
from tracker.web.metrics.catalog import MAX_METRIC_DAYS, Metric

ALERTS = ROOT / "docs" / "alerts.yml"
DASHBOARD = ROOT / "docs" / "grafana" / "sendtrace.json"

NOW = datetime.now(UTC)
ACTIVITY = WorkerActivity(
    workers=[
        WorkerInfo(name="a@here", heard_at=NOW, is_online=True, queues=["gateway", "queued"]),
        WorkerInfo(name="b@here", heard_at=NOW, is_online=False, queues=["delivery"]),
    ],
    failed=[
        FailedTask(
            task="workers.submit",
            campaign=1,
            batch=0,
            error="",
            worker="a@here",
            at=NOW,
            task_id=str(will_retry),
            will_retry=will_retry,
        )
        for will_retry in (True, False)
    ],
)
MONITORING = {
    "read_worker_activity": lambda: ACTIVITY,
    "read_queue_depths": lambda: {"gateway": QueueDepth(3, 2)},
    "read_sweep_age": lambda: 100.0,
}

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


def read_metrics(client: TestClient) -> Samples:
    """Return the values of all metrics, by their names and labels."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples: Samples = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            samples.setdefault(sample.name, {})[labels] = sample.value
    return samples


def value_of(samples: Samples, name: str, **labels: str) -> float | None:
    values = [
        value
        for sample_labels, value in samples[f"sendtrace_{name}"].items()
        if labels.items() <= set(sample_labels)
    ]
    assert len(values) <= 1
    return values[0] if values else None


@pytest.fixture
def client(batch: Batch, database: Database, settings: Settings) -> Iterator[TestClient]:
    with database.write() as connection:
        connection.execute(sa.update(batches).values(touched_at=0))
    with live_page_client(database, settings, MONITORING) as client:
        yield client


def test_message_counts_are_those_of_the_report(
    batch: Batch, client: TestClient, database: Database
) -> None:
    samples = read_metrics(client)
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    for status in Status:
        assert value_of(samples, "messages", status=status.slug) == report.count_messages(status)
    for reason in Reason:
        count = report.count_messages(Status.NOT_SENT, reason)
        assert value_of(samples, "not_sent", reason=reason.slug) == (count or None)


def test_state_and_scheduled_customers_of_a_campaign(
    batch: Batch, database: Database, settings: Settings
) -> None:
    make_campaign(database, Plan(name="later", size=7))
    silence_driver(database, batch.campaign)
    with old_server(), live_page_client(database, settings, MONITORING) as client:
        samples = read_metrics(client)
    for state in CampaignState:
        is_state = state is CampaignState.ABANDONED
        assert value_of(samples, "campaign_state", campaign="spring", state=state) == is_state
    assert value_of(samples, "campaign_state", campaign="later", state="scheduled") == 1
    assert value_of(samples, "scheduled", campaign="later") == 7
    assert value_of(samples, "scheduled", campaign="spring") == 0


def test_a_full_disk_of_the_broker_has_a_metric(
    batch: Batch, client: TestClient, database: Database, settings: Settings
) -> None:
    assert value_of(read_metrics(client), "disk_full") == 0

    def fail() -> Any:
        raise OSError("MISCONF Errors writing to the AOF file: No space left on device")

    with live_page_client(database, settings, {**MONITORING, "read_queue_depths": fail}) as other:
        samples = read_metrics(other)
    assert value_of(samples, "disk_full") == 1
    assert value_of(samples, "broker_up") == 0


def test_the_time_of_checks_is_a_counter(
    batch: Batch, database: Database, settings: Settings
) -> None:
    now = batch.campaign.clock.now()
    for _ in range(2):
        times = {"ndnc": CheckTime(1_000, 0.25)}
        with open_entry(database, batch, Step.SUPPRESS, AUTHOR, started_at=now, check_times=times):
            pass
    with live_page_client(database, settings, MONITORING) as client:
        samples = read_metrics(client)
    assert value_of(samples, "check_seconds_total", campaign="spring", check="ndnc") == 0.5
    assert value_of(samples, "check_calls_total", campaign="spring", check="ndnc") == 2_000


def test_counters_say_what_happened_and_not_where_messages_are(
    batch: Batch, database: Database, settings: Settings
) -> None:
    additions = Counters()
    additions.add(CounterName.GATEWAY_CALLS, "smtp submit", 3)
    additions.add(CounterName.REFUSED_RECEIPTS, "stale", 2)
    for seconds in (0.02, 0.02, 7.0):
        additions.observe(CounterName.WAIT_SECONDS, "submit", seconds)
    record_counters(database, additions)
    with live_page_client(database, settings, MONITORING) as client:
        samples = read_metrics(client)
        text = client.get("/metrics").text
    with database.read() as connection:
        rows = connection.execute(
            sa.select(transitions.c.status, sa.func.count()).group_by(transitions.c.status)
        )
        entered = {Status(status).slug: count for status, count in rows}
    counted: Counter[str] = Counter()
    for labels, value in samples["sendtrace_transitions_total"].items():
        counted[dict(labels)["status"]] += int(value)
    assert +counted == entered
    assert value_of(samples, "gateway_calls_total", gateway="smtp", method="submit") == 3
    assert value_of(samples, "receipts_total", verdict="stale") == 2
    outcomes = ("delivered", "hard_bounced", "soft_bounced", "not_delivered")
    applied = sum(entered.get(slug, 0) for slug in outcomes)
    assert value_of(samples, "receipts_total", verdict="applied") == applied
    buckets = {
        le: value_of(samples, "wait_seconds_bucket", le=le) for le in ("0.01", "0.05", "5.0")
    }
    assert buckets == {"0.01": 0, "0.05": 2, "5.0": 2}
    assert value_of(samples, "wait_seconds_count", step="submit") == 3
    assert value_of(samples, "wait_seconds_sum", step="submit") == pytest.approx(7.04)
    assert "# TYPE sendtrace_wait_seconds histogram" in text


def test_queues_workers_and_stalled_batches_have_metrics(client: TestClient) -> None:
    samples = read_metrics(client)
    assert value_of(samples, "database_up") == 1
    assert value_of(samples, "broker_up") == 1
    age = time.time() - (value_of(samples, "sweep_timestamp_seconds") or 0)
    assert 100 <= age < 130
    assert (value_of(samples, "disk_free_bytes") or 0) > 0
    assert value_of(samples, "queue_tasks", queue="gateway", state="ready") == 3
    assert value_of(samples, "queue_tasks", queue="gateway", state="unacked") == 2
    assert value_of(samples, "batches_standing_still", campaign="spring") == 1
    assert value_of(samples, "workers", state="there") == 1
    assert value_of(samples, "workers", state="silent") == 1
    assert value_of(samples, "queue_workers", queue="gateway") == 1
    assert value_of(samples, "queue_workers", queue="delivery") == 0, "its worker is silent"
    assert value_of(samples, "recent_failures") == 1
    assert (value_of(samples, "oldest_message_seconds", stage="queued") or 0) >= 0


def test_queue_metrics_are_absent_while_the_broker_is_unavailable(
    batch: Batch, database: Database, settings: Settings
) -> None:
    def refuse() -> Any:
        raise OSError

    with live_page_client(database, settings, MONITORING | {"read_queue_depths": refuse}) as client:
        samples = read_metrics(client)
    assert value_of(samples, "broker_up") == 0
    assert "sendtrace_queue_tasks" not in samples


def test_labels_are_escaped(database: Database, settings: Settings) -> None:
    make_busy_batch(database, Plan(name=f'{HOSTILE}\n\\"}} 1', size=22))
    with live_page_client(database, settings) as client:
        samples = read_metrics(client)
    assert value_of(samples, "messages", campaign=f'{HOSTILE}\n\\"}} 1', status="queued") == 2


def test_alerts_use_existing_metrics_and_reasons() -> None:
    with ALERTS.open() as file:
        alerts = YAML(typ="safe").load(file)
    metrics = {metric.full_name for metric in Metric}
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 8
    for rule in rules:
        names = set(re.findall(r"sendtrace_\w+", rule["expr"]))
        assert names <= metrics, rule["alert"]
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    [slugs] = [slugs for rule in rules for slugs in re.findall(r'reason=~"([^"]*)"', rule["expr"])]
    system_errors = (reason for reason in Reason if reason.category is Category.SYSTEM_ERROR)
    assert sorted(slugs.split("|")) == sorted(reason.slug for reason in system_errors)


def test_the_dashboard_shows_metrics_and_labels_that_exist(
    batch: Batch, database: Database, settings: Settings
) -> None:
    additions = Counters()
    for method in ("submit", "receipts"):
        additions.add(CounterName.GATEWAY_CALLS, f"smtp {method}")
    additions.observe(CounterName.WAIT_SECONDS, "submit", 1.0)
    additions.observe(CounterName.STEP_SECONDS, "submit", 1.0)
    record_counters(database, additions)
    now = batch.campaign.clock.now()
    times = {"ndnc": CheckTime(1_000, 0.25)}
    with open_entry(database, batch, Step.SUPPRESS, AUTHOR, started_at=now, check_times=times):
        pass
    with live_page_client(database, settings, MONITORING) as client:
        samples = read_metrics(client)
    targets = [
        target
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel["targets"]
    ]
    assert len(targets) > 12
    for target in targets:
        [name] = re.findall(r"sendtrace_\w+", target["expr"])
        labels = {label for sample in samples[name] for label, _ in sample}
        grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
        used = {label for names in grouped for label in names.split(", ")}
        used |= {*re.findall(r"(\w+)=\"", target["expr"])}
        used |= {*re.findall(r"{{(\w+)}}", target["legendFormat"])}
        assert used <= labels, target


def test_the_time_of_the_last_requeue_is_a_metric(database: Database, settings: Settings) -> None:
    batch = make_busy_batch(database)
    row = {"campaign_id": batch.campaign.id, "batch": batch.batch, "step": "submit"}
    with database.write() as connection:
        requeue = {"times": 1, "touched_at": 1, "sent_at": 12_000_000}
        connection.execute(sa.insert(recoveries).values(**row, **requeue))
    with live_page_client(database, settings) as client:
        assert read_metrics(client)["sendtrace_recovery_timestamp_seconds"] == {frozenset(): 12.0}


def test_the_time_of_beat_s_rollup_is_a_metric_and_no_other_rollup_counts(
    batch: Batch, database: Database, settings: Settings
) -> None:
    """A missed rollup of beat was hidden by any other, and finished campaigns raised alarms."""
    roll_up_engagement(database, UTC)
    with live_page_client(database, settings) as client:
        assert Metric.DAILY_ROLLUP.full_name not in read_metrics(client)
        assert "rollup of engagement has not run yet" in client.get("/operations").text
    before = to_seconds(SystemClock().now())
    record_daily_rollup(database)
    with live_page_client(database, settings) as client:
        [at] = read_metrics(client)[Metric.DAILY_ROLLUP.full_name].values()
        assert before <= at <= to_seconds(SystemClock().now())
        assert "rollup last ran at <time" in client.get("/operations").text


def test_the_latest_days_of_engagement_are_a_metric(database: Database, settings: Settings) -> None:
    batch = make_batch(database)
    deliver_all(database, batch)
    days = [datetime(2026, 11, 1 + day, 12, tzinfo=UTC) for day in range(MAX_METRIC_DAYS + 1)]
    events = [
        EngagementEvent(number, OPENED, from_datetime(day)) for number, day in enumerate(days)
    ]
    record_events(database, batch, events)
    roll_up_engagement(database, UTC)
    with live_page_client(database, settings) as client:
        samples = read_metrics(client)
    for day in days:
        for kind, count in (("opened", 1), ("clicked", 0)):
            expected = None if day is days[0] else count
            labels = {"day": f"{day:%Y-%m-%d}", "kind": kind, "campaign": "spring"}
            assert value_of(samples, "engagement_day_recipients", **labels) == expected
