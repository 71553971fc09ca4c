"""The health of all parts, judged on real parts that hang, are full or can't be written."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import psutil
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from simulator.stack.local import start_local_broker
from tests.support.shell import LIMIT_SECONDS, wait_until
from tests.support.web import TOKEN, live_page_client
from tracker.monitoring import WorkerActivity, WorkerInfo
from tracker.record.catalog import Batch
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.web.health import watch
from tracker.web.health.judge import (
    BrokerFacts,
    Condition,
    DiskSpace,
    GatewayTrouble,
    HealthFacts,
    Part,
    judge_health,
)
from tracker.web.health.probes import Finding

NOW = datetime.now(UTC)

QUEUES = ("queued", "upkeep")


def make_worker(queue: str, *, is_online: bool = True) -> WorkerInfo:
    return WorkerInfo(name=f"{queue}@here", heard_at=NOW, is_online=is_online, queues=[queue])


HEALTHY = HealthFacts(
    database=Finding(value_at=NOW),
    disks=Finding(value=[DiskSpace("/", 10**12, 2 * 10**12)], value_at=NOW),
    broker=Finding(value=BrokerFacts({}, sweep_age=1.0), value_at=NOW),
    activity=WorkerActivity(workers=[make_worker(queue) for queue in QUEUES]),
    queues=QUEUES,
)

SILENT = WorkerActivity(workers=[make_worker(queue, is_online=False) for queue in QUEUES])

FAILED = {"value_at": NOW, "failing_since": NOW}

MORE_THAN_THERE_ARE_THREADS = 50
"""Requests; the server handles 40 at once in threads."""

TROUBLE = GatewayTrouble("spring", "no route", NOW, is_refusing=False, waiting=7)


@pytest.mark.parametrize(
    ("changes", "cause", "summary"),
    [
        ({}, None, ""),
        (
            {"broker": Finding(error="no answer for 4 s", **FAILED), "activity": SILENT},
            Part.BROKER,
            "no answer",
        ),
        (
            {
                "database": Finding(error="database or disk is full", **FAILED),
                "broker": Finding(error="MISCONF No space left on device", **FAILED),
            },
            Part.DISK,
            "Disk full",
        ),
        ({"database": Finding(error="read-only", **FAILED)}, Part.DATABASE, "can't be written"),
        ({"activity": SILENT}, Part.WORKERS, "No worker is online"),
        (
            {"activity": WorkerActivity(workers=[make_worker("upkeep")])},
            Part.WORKERS,
            "serves queued",
        ),
        (
            {"broker": Finding(value=BrokerFacts({}, 99.0), value_at=NOW)},
            Part.BEAT,
            "No sweep for 99 s",
        ),
        (
            {
                "database": Finding(error="connection refused", **FAILED),
                "broker": Finding(value=BrokerFacts({}, 99.0), value_at=NOW),
            },
            Part.DATABASE,
            "connection refused",
        ),
        (
            {
                "disks": Finding(value=[DiskSpace("/", 0, 10**12)], value_at=NOW),
                "broker": Finding(value=BrokerFacts({}, None), value_at=NOW),
            },
            Part.DISK,
            "Disk full",
        ),
        ({"gateways": [TROUBLE]}, Part.GATEWAYS, "no route; 7 messages waiting"),
    ],
)
def test_the_root_cause_is_named_once(
    changes: dict[str, Any], cause: Part | None, summary: str
) -> None:
    health = judge_health(replace(HEALTHY, **changes))
    assert health.cause is cause
    if cause is None:
        assert health.condition is Condition.OK
        return
    assert health.condition is Condition.DOWN
    assert summary in health.parts[cause].summary
    down = {part for part, state in health.parts.items() if state.condition is Condition.DOWN}
    failed = {part for part in (Part.DATABASE, Part.BROKER) if _has_error(changes.get(part))}
    assert down == {cause} | failed, "what follows from the cause is unknown, not down"


def _has_error(finding: object) -> bool:
    return getattr(finding, "error", None) is not None


def test_a_worker_that_misses_heartbeats_needs_attention_before_its_queue_counts_as_unserved() -> (
    None
):
    late = replace(make_worker("queued"), is_late=True)
    activity = WorkerActivity(workers=[late, make_worker("upkeep")])
    health = judge_health(replace(HEALTHY, activity=activity))
    assert (health.cause, health.condition) == (Part.WORKERS, Condition.ATTENTION)
    assert health.parts[Part.WORKERS].summary == "No heartbeat lately: queued@here"
    assert health.parts[Part.WORKERS].since == NOW
    assert health.parts[Part.BEAT].condition is Condition.OK


@pytest.fixture
def monitored(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[TestClient, psutil.Process]]:
    """Yield a client of the live page, and the process of its own broker."""
    monkeypatch.setattr(watch, "DATABASE_INTERVAL_SECONDS", 0.1)
    with start_local_broker() as broker:
        [server] = [
            child
            for child in psutil.Process().children(recursive=True)
            if any(str(broker.socket) in part for part in child.cmdline())
        ]
        with live_page_client(database, settings, broker_url=broker.url) as client:
            try:
                yield client, server
            finally:
                server.resume()


def test_a_broker_that_hangs_is_the_one_cause(
    batch: Batch, monitored: tuple[TestClient, psutil.Process]
) -> None:
    client, server = monitored
    assert client.get("/health").json()["parts"]["broker"]["status"] == "ok"
    server.send_signal(signal.SIGSTOP)
    wait_until(lambda: client.get("/health").json()["cause"] == "broker", "the cause is named")
    response = client.get("/health")
    assert response.status_code == client.head("/health").status_code == 503
    parts = response.json()["parts"]
    assert (parts["workers"]["status"], parts["beat"]["status"]) == ("unknown", "unknown")
    assert parts["broker"]["since"]
    assert client.get("/health/live").status_code == client.head("/health/live").status_code == 200
    assert client.portal is not None
    client.portal.call(cast("FastAPI", client.app).state.context.live.refresh)
    for path in ("/", "/operations", "/runs", f"/campaigns/{batch.campaign.id}"):
        page = client.get(path).text
        assert "Broker unavailable" in page, path
        assert "No worker serves" not in page
        assert "No stalled batches" not in page
    [campaign] = client.get("/api/campaigns").json()["campaigns"]
    assert "Broker unavailable" in campaign["attention"][0]
    server.send_signal(signal.SIGCONT)
    is_back = lambda: client.get("/health").json()["parts"]["broker"]["status"] == "ok"  # noqa: E731
    wait_until(is_back, "the broker is back")


def test_a_database_that_can_only_be_read_is_down(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "DATABASE_INTERVAL_SECONDS", 0.1)
    is_read_only = threading.Event()

    # A listener that is added while another thread executes a statement makes that fail.
    @sa.event.listens_for(database.engine, "begin")
    def forbid_writes(connection: sa.Connection) -> None:
        if is_read_only.is_set():
            connection.exec_driver_sql(
                "SET TRANSACTION READ ONLY" if database.is_postgresql else "PRAGMA query_only=1"
            )

    with live_page_client(database, settings) as client:
        assert client.get("/health").json()["parts"]["database"]["status"] == "ok"
        is_read_only.set()
        wait_until(lambda: client.get("/health").json()["cause"] == "database", "it is noticed")
        assert "can't be written" in client.get("/health").json()["parts"]["database"]["summary"]
        assert client.get("/").status_code == 200, "the numbers can still be read"


def test_pages_say_that_the_database_hangs_and_dont_wait_for_it(
    batch: Batch, database: Database, settings: Settings
) -> None:
    if not database.is_postgresql:
        pytest.skip("a reader of SQLite waits for no lock")
    messages = f"/campaigns/{batch.campaign.id}/messages"
    lock = sa.text("LOCK TABLE campaigns, runs IN ACCESS EXCLUSIVE MODE")
    with (
        live_page_client(database, settings) as client,
        ThreadPoolExecutor(MORE_THAN_THERE_ARE_THREADS) as pool,
    ):
        with database.engine.connect() as connection:
            connection.execute(lock)
            early = pool.submit(client.get, messages)
            wait_until(lambda: client.get("/health").json()["cause"] == "database", "it is late")
            assert early.result(LIMIT_SECONDS).status_code == 503, "it was asked for before"
            for path in ("/runs", "/runs/1", messages, f"{messages}/0", "/api/runs"):
                response = client.get(path)
                assert response.status_code == 503, path
                assert "no answer for more than" in response.text, path
            for refused in pool.map(client.get, MORE_THAN_THERE_ARE_THREADS * ["/runs"]):
                assert refused.status_code == 503
            assert client.get("/").status_code == 200, "its numbers are known, and a thread is free"
        wait_until(lambda: client.get("/runs").status_code == 200, "the database answers again")
        assert client.get(messages).status_code == 200


def test_details_need_the_token(settings: Settings, database: Database) -> None:
    with live_page_client(database, settings, token=SecretStr(TOKEN)) as client:
        parts = client.get("/health").json()["parts"]
        assert all("summary" not in part for part in parts.values())
        parts = client.get("/health", auth=("anyone", TOKEN)).json()["parts"]
        assert parts["broker"]["summary"] == "No broker is configured"
        assert os.fspath(settings.home) in parts["disk"]["summary"]
