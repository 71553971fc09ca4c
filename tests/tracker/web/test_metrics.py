"""What Prometheus reads, and the alerts on it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from ruamel.yaml import YAML

from tests.support.factory import Plan, make_busy_batch
from tests.support.paths import ROOT
from tests.support.web import HOSTILE, TOKEN, served
from tracker.monitoring import FailedTask, QueueDepth, WorkerActivity, WorkerInfo
from tracker.queries.report import make_reports
from tracker.record.catalog import Batch
from tracker.settings import Settings
from tracker.status import Reason, Status
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import transitions
from tracker.store.schema.work import recoveries

ALERTS = ROOT / "docs" / "alerts.yml"

NOW = datetime.now(UTC)
PRESENCE = WorkerActivity(
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
            task_id=str(again),
            will_retry=again,
        )
        for again in (True, False)
    ],
)
BESIDE = {"presence": lambda: PRESENCE, "depths": lambda: {"gateway": QueueDepth(3, 2)}}

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


def read(client: TestClient) -> Samples:
    """Metrics by name, and by their labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def of(samples: Samples, name: str, **labels: str) -> float | None:
    wanted = labels.items()
    found = [value for has, value in samples[f"sendtrace_{name}"].items() if wanted <= set(has)]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.fixture
def batch(database: Database) -> Batch:
    return make_busy_batch(database)


@pytest.fixture
def client(batch: Batch, database: Database, settings: Settings) -> Iterator[TestClient]:
    with database.write() as connection:
        connection.execute(sa.update(batches).values(touched_at=0))
    with served(database, settings, BESIDE) as made:
        yield made


def test_messages_are_those_of_the_report(
    batch: Batch, client: TestClient, database: Database
) -> None:
    found = read(client)
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    for status in Status:
        assert of(found, "messages", status=status.slug) == report.having(status)
    for reason in Reason:
        count = report.having(Status.NOT_SENT, reason)
        assert of(found, "not_sent", reason=reason.slug) == (count or None)


def test_transitions_count_who_has_been_there(
    batch: Batch, client: TestClient, database: Database
) -> None:
    found = read(client)
    surely = (Status.QUEUED, Status.IN_GATEWAY, Status.DELIVERED, Status.NOT_SENT)
    with database.read() as connection:
        for status in surely:
            entered = connection.execute(
                sa.select(sa.func.count(transitions.c.number.distinct())).where(
                    transitions.c.status == status
                )
            ).scalar_one()
            late = 1 if status is Status.DELIVERED else 0  # it has bounced since
            assert of(found, "transitions_total", status=status.slug) == entered - late


def test_what_else_there_is(client: TestClient) -> None:
    found = read(client)
    assert of(found, "database_up") == 1
    assert of(found, "broker_up") == 1
    assert of(found, "queue_tasks", queue="gateway", state="ready") == 3
    assert of(found, "queue_tasks", queue="gateway", state="unacked") == 2
    assert of(found, "batches_standing_still", campaign="spring") == 1
    assert of(found, "workers", state="there") == 1
    assert of(found, "workers", state="silent") == 1
    assert of(found, "queue_workers", queue="gateway") == 1
    assert of(found, "queue_workers", queue="delivery") == 0, "its worker is silent"
    assert of(found, "recent_failures") == 1
    assert (of(found, "oldest_message_seconds", stage="queued") or 0) >= 0


def test_a_broker_that_is_away(batch: Batch, database: Database, settings: Settings) -> None:
    def away() -> Any:
        raise OSError

    with served(database, settings, BESIDE | {"depths": away}) as client:
        found = read(client)
    assert of(found, "broker_up") == 0
    assert "sendtrace_queue_tasks" not in found


def test_names_are_escaped(database: Database, settings: Settings) -> None:
    make_busy_batch(database, Plan(name=f'{HOSTILE}\n\\"}} 1', size=22))
    with served(database, settings) as client:
        found = read(client)
    assert of(found, "messages", campaign=f'{HOSTILE}\n\\"}} 1', status="queued") == 2


def test_metrics_are_for_who_has_the_token(database: Database, settings: Settings) -> None:
    with served(database, settings, token=SecretStr(TOKEN)) as client:
        assert client.get("/metrics").status_code == 401
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/metrics", headers=bearer).status_code == 200


def test_alerts_are_on_metrics_that_there_are(client: TestClient) -> None:
    with ALERTS.open() as file:
        said = YAML(typ="safe").load(file)
    there = {*read(client), "sendtrace_rollup_timestamp_seconds"}
    rules = [rule for group in said["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 8
    for rule in rules:
        named = set(re.findall(r"sendtrace_\w+", rule["expr"]))
        assert named, rule["alert"]
        assert named <= there, rule["alert"]
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert set(rule["annotations"]) == {"summary", "description"}
        slugs = re.findall(r'reason=~"([^"]*)"', rule["expr"])
        for slug in "|".join(slugs).split("|"):
            assert slug in ("", *(reason.slug for reason in Reason))


def test_it_is_told_when_a_sweep_last_sent_something_on(
    database: Database, settings: Settings
) -> None:
    batch = make_busy_batch(database)
    row = {"campaign_id": batch.campaign.id, "batch": batch.batch, "step": "submit"}
    with database.write() as connection:
        sent = {"times": 1, "touched_at": 1, "sent_at": 12_000_000}
        connection.execute(sa.insert(recoveries).values(**row, **sent))
    with served(database, settings) as client:
        assert read(client)["sendtrace_recovery_timestamp_seconds"] == {frozenset(): 12.0}
