"""The events of a real worker on a real Valkey."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from simulator.stack.local import start_local_broker
from tests.support.celery_worker import start_worker
from tracker.monitoring import WorkerActivity
from workers.gateways.base import GatewayUnavailable
from workers.queues import format_task_arguments
from workers.steps.bisection import SegmentsLeft
from workers.upkeep import presence
from workers.upkeep.presence import WorkerListener

LIMIT_SECONDS = 150.0
"""Seconds to wait for any event here."""


@pytest.fixture
def listener(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerListener]:
    monkeypatch.setattr(presence, "INSPECT_INTERVAL_SECONDS", 0.5)
    with (
        Celery("listening", broker=broker_url, set_as_current=False) as app,
        WorkerListener(app) as made,
    ):
        yield made


def seen(listener: WorkerListener, condition: Callable[[WorkerActivity], bool]) -> WorkerActivity:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition(listener.snapshot()):
        assert time.monotonic() < deadline, listener.snapshot()
        time.sleep(0.02)
    return listener.snapshot()


def test_a_worker_goes_online_and_offline(
    listener: WorkerListener, tmp_path: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_worker(tmp_path, broker_url) as process:
        activity = seen(listener, lambda it: any(worker.is_online for worker in it.workers))
        assert [worker.name for worker in activity.workers] == ["one@here"]
        activity = seen(listener, lambda it: bool(it.workers[0].queues))
        assert activity.workers[0].queues == ("celery",)
        assert activity.disconnected_since is None
        monkeypatch.setattr(presence, "LATE_AFTER_SECONDS", 4.0)
        monkeypatch.setattr(presence, "SILENT_AFTER_SECONDS", 1_000.0)
        os.killpg(process.pid, signal.SIGKILL)
        activity = seen(listener, lambda it: it.workers[0].is_late)
        assert activity.workers[0].is_online, "its heartbeats have just begun to be missing"
        monkeypatch.setattr(presence, "SILENT_AFTER_SECONDS", 5.0)
        activity = seen(listener, lambda it: not it.workers[0].is_online)
        assert [worker.name for worker in activity.workers] == ["one@here"], "it is still listed"


def test_failed_tasks_are_listed_without_personal_data(
    listener: WorkerListener, tmp_path: Path, broker_url: str
) -> None:
    with (
        start_worker(tmp_path, broker_url),
        Celery("asking", broker=broker_url, set_as_current=False) as app,
    ):
        seen(listener, lambda it: any(worker.is_online for worker in it.workers))
        for name, batch in (("workers.fails", 3), ("workers.tries", 4)):
            app.send_task(
                name,
                kwargs={"campaign": 7, "batch": batch},
                kwargsrepr=format_task_arguments(7, batch, "O'Neill", 1),
            )
        activity = seen(listener, lambda it: len(it.failed) >= 3)
    by_task = {(task.task, task.will_retry): task for task in activity.failed}
    failed = by_task["workers.fails", False]
    assert (failed.campaign, failed.batch, failed.worker) == (7, 3, "one@here")
    assert len(failed.error) == presence.MAX_ERROR_LENGTH
    again = by_task["workers.tries", True]
    assert (again.batch, again.error) == (4, "OSError('unavailable')")
    assert ("workers.tries", False) in by_task
    assert [task.at for task in activity.failed] == sorted(
        (task.at for task in activity.failed), reverse=True
    )


def test_a_task_that_goes_on_with_the_next_segment_has_not_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Celery("listening", broker="memory://", set_as_current=False) as app:
        listener = WorkerListener(app)
        for number, error in enumerate((SegmentsLeft("more"), GatewayUnavailable("no route"))):
            event = {
                "type": "task-retried",
                "uuid": str(number),
                "hostname": "one@here",
                "timestamp": time.time(),
                "local_received": time.time(),
                "clock": number,
                "exception": repr(error),
            }
            listener._handle_event(event)
    activity = listener.snapshot()
    assert [task.error for task in activity.failed] == ["GatewayUnavailable('no route')"]
    assert activity.workers == (), "only its tasks have been heard of so far"
    with monkeypatch.context() as patched:
        patched.setattr(presence, "FAILURE_LISTED_SECONDS", -1.0)
        assert listener.snapshot().failed == (), "old failures are no longer counted"


def make_event(kind: str, received_at: float, *, clock_offset: float = 0.0) -> dict[str, Any]:
    """Return an event that arrives at a time from a worker whose clock is ahead by an offset."""
    return {
        "type": kind,
        "uuid": "1",
        "hostname": "one@here",
        "timestamp": received_at + clock_offset,
        "local_received": received_at,
        "clock": 1,
    }


@pytest.mark.parametrize("clock_offset", [-7_200.0, 0.0, 7_200.0])
def test_the_clock_of_a_worker_does_not_decide_whether_it_is_online(clock_offset: float) -> None:
    """Whether it goes silent or shuts down, it is listed as offline until it returns."""
    with Celery("listening", broker="memory://", set_as_current=False) as app:
        listener = WorkerListener(app)

        def is_online(kind: str, received_at: float) -> bool:
            listener._handle_event(make_event(kind, received_at, clock_offset=clock_offset))
            [worker] = listener.snapshot().workers
            return worker.is_online

        now = time.time()
        silent_since = now - 10 * presence.SILENT_AFTER_SECONDS
        assert not is_online("worker-heartbeat", silent_since)
        assert not is_online("task-received", silent_since)
        [worker] = listener.snapshot().workers
        assert worker.heard_at.timestamp() == pytest.approx(silent_since)
        later = now + 3_600.0  # however long this takes
        assert is_online("worker-heartbeat", later)
        assert not is_online("worker-offline", later)
        assert is_online("worker-online", later)
        listener._handle_event(make_event("task-failed", now, clock_offset=clock_offset))
    [failed] = listener.snapshot().failed
    assert failed.at.timestamp() == pytest.approx(now)


def test_queues_of_workers_that_are_no_longer_known_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presence, "LISTEN_TIMEOUT_SECONDS", 0.01)
    with Celery("listening", broker="memory://", set_as_current=False) as app:
        listener = WorkerListener(app)
        listener._handle_event(make_event("worker-online", time.time()))
        listener._queues = {"one@here": ("submit",), "gone@there": ("submit",)}
        listener._inspect_queues()
    assert listener._queues == {"one@here": ("submit",)}


def test_the_loss_of_the_broker_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MAX_RECONNECT_SECONDS", 0.2)
    with start_local_broker() as broker:
        app = Celery("listening", broker=broker.url, set_as_current=False)
        listening = WorkerListener(app)
        listening.__enter__()
        try:
            seen(listening, lambda it: it.disconnected_since is None)
        except BaseException:
            listening.__exit__()
            raise
    try:
        activity = seen(listening, lambda it: it.disconnected_since is not None)
        assert activity.disconnected_since is not None
        assert activity.disconnected_since <= datetime.now(UTC)
    finally:
        listening.__exit__()
        app.close()
    assert not listening._thread.is_alive()


def test_workers_are_not_silent_because_the_broker_was() -> None:
    """Only the time in which their events could arrive counts."""
    with Celery("listening", broker="memory://", set_as_current=False) as app:
        listener = WorkerListener(app)
        now = time.time()
        outage = now - 10 * presence.SILENT_AFTER_SECONDS
        listener._handle_event(make_event("worker-heartbeat", outage - 1.0))
        listener._disconnected_since = datetime.fromtimestamp(outage, UTC)
        assert listener.snapshot().workers[0].is_online, "as of the loss of the broker"
        listener._note_connection()
        activity = listener.snapshot()
        assert activity.workers[0].is_online, "it has had no chance to say anything"
        assert not activity.is_inspected
        listener._gaps.clear()
        assert not listener.snapshot().workers[0].is_online


def test_tasks_tell_which_gateways_are_unavailable() -> None:
    with Celery("listening", broker="memory://", set_as_current=False) as app:
        listener = WorkerListener(app)
        kwargs = format_task_arguments(7, 1, "spring", 0)

        def send(kind: str, **fields: object) -> WorkerActivity:
            listener._handle_event(make_event(kind, time.time()) | fields)
            return listener.snapshot()

        send("task-received", name="workers.submit", kwargs=kwargs)
        activity = send("task-retried", exception="GatewayUnavailable('refuses messages: no')")
        [outage] = activity.gateway_outages
        assert (outage.campaign, outage.error) == (7, "refuses messages: no")
        assert outage.is_refusing
        assert send("task-succeeded").gateway_outages == []
        [again] = send("task-retried", exception="GatewayUnavailable('x')").gateway_outages
        assert again.since == outage.since, "a task without messages had succeeded"
        quoted = """it's "550 (no)\""""
        [last] = send("task-retried", exception=repr(GatewayUnavailable(quoted))).gateway_outages
        assert last.error == quoted
