"""Listen to the events of the workers: which are online, and which tasks failed."""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.events.state import State, Worker

from tracker.monitoring import FailedTask, WorkerActivity, WorkerInfo
from tracker.output.logs import LogFields
from workers.steps.bisection import SegmentsLeft
from workers.upkeep.broker import make_broker_client, parse_batch_key
from workers.upkeep.gateway_outages import GatewayOutages

logger = logging.getLogger(__name__)

SILENT_AFTER_SECONDS = 20.0
"""Seconds without a heartbeat after which a worker counts as offline. Workers send one every two
seconds."""

LATE_AFTER_SECONDS = 8.0
"""Seconds without a heartbeat after which a worker that counts as online needs attention."""

FORGET_AFTER_SECONDS = 3600.0
"""Seconds after its last event at which a worker is no longer listed."""

MAX_TASKS, MAX_FAILURES = 2_000, 200
"""Tasks whose names are kept in memory, and failures that are listed."""

FAILURE_LISTED_SECONDS = 900.0
"""Seconds for which a failure is listed."""

QUIET_SECONDS = 5.0
"""Seconds without any event after which the broker is asked whether it still answers."""

PING_TIMEOUT_SECONDS = 2.0

MAX_ERROR_LENGTH = 500

MAX_GAPS = 100
"""Times without a connection that are remembered."""

INSPECT_INTERVAL_SECONDS, SOON_INSPECT_INTERVAL_SECONDS = 30.0, 3.0
"""Seconds between two inspections of the queues that the workers serve; the second while the queues
of a worker aren't known."""

SETTLING_SECONDS = 5.0
"""Seconds of listening after which every worker has sent an event."""

LISTEN_TIMEOUT_SECONDS = 1.0
"""Seconds that the listener waits for an event before it checks whether it should stop."""

MAX_RECONNECT_SECONDS = 2.0
"""Longest time, in seconds, between two attempts to reach the broker."""


class WorkerListener:
    """A collector of the workers' events, in its own thread; a context manager."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._state = State(max_workers_in_memory=1_000, max_tasks_in_memory=MAX_TASKS)
        self._failed: deque[FailedTask] = deque(maxlen=MAX_FAILURES)
        self._queues: Mapping[str, Sequence[str]] = {}
        self._inspected_at = 0.0
        self._is_inspecting = False
        self._has_inspected = False
        self._disconnected_since: datetime | None = datetime.now(UTC)
        self._listening_since = time.monotonic()
        self._heard_at = 0.0
        self._gaps: deque[tuple[float, float]] = deque(maxlen=MAX_GAPS)
        self._outages = GatewayOutages()
        self._stop_requested = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def __enter__(self) -> "WorkerListener":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_requested.set()
        self._thread.join(10 * LISTEN_TIMEOUT_SECONDS)

    def snapshot(self) -> WorkerActivity:
        """Return the workers and the failed tasks as of now."""
        now = time.time()
        listed_since = datetime.fromtimestamp(now - FAILURE_LISTED_SECONDS, UTC)
        with self._lock:
            workers = [
                WorkerInfo(
                    name=name,
                    heard_at=datetime.fromtimestamp(_last_heard(worker), UTC),
                    # A worker that shuts down says so, and Celery clears its heartbeats.
                    is_online=bool(worker.heartbeats)
                    and self._silence(worker, now) < SILENT_AFTER_SECONDS,
                    is_late=self._silence(worker, now) > LATE_AFTER_SECONDS,
                    queues=self._queues.get(name, ()),
                )
                for name, worker in sorted(self._state.workers.items())
                if now - _last_heard(worker) < FORGET_AFTER_SECONDS
            ]
            return WorkerActivity(
                workers=tuple(workers),
                failed=tuple(
                    failure for failure in reversed(self._failed) if failure.at >= listed_since
                ),
                disconnected_since=self._disconnected_since,
                is_inspected=self._has_inspected
                and time.monotonic() - self._listening_since > SETTLING_SECONDS,
                gateway_outages=self._outages.list_current(),
            )

    def _silence(self, worker: Worker, now: float) -> float:
        """Return for how many seconds a worker was silent while this listened."""
        heard = _last_heard(worker)
        gaps = [*self._gaps]
        if self._disconnected_since is not None:
            gaps.append((self._disconnected_since.timestamp(), now))
        return now - heard - sum(max(0.0, end - max(start, heard)) for start, end in gaps)

    def _run(self) -> None:
        pause = LISTEN_TIMEOUT_SECONDS
        while not self._stop_requested.is_set():
            try:
                self._listen()
                pause = LISTEN_TIMEOUT_SECONDS
            except Exception as error:  # kombu and redis raise many types
                logger.debug("worker events unavailable: %s", LogFields(error=error))
                with self._lock:
                    self._disconnected_since = self._disconnected_since or datetime.now(UTC)
                self._stop_requested.wait(pause)
                pause = min(2 * pause, MAX_RECONNECT_SECONDS)

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            receiver = self._app.events.Receiver(connection, handlers={"*": self._handle_event})
            receiver.connect_max_retries = 1  # `_run` reconnects, and notes since when it must
            receiver.on_connection_error = _ignore_connection_error
            with (
                receiver.consumer_context(wakeup=True) as (channelled, _, _),
                make_broker_client(
                    self._app.conf.broker_url, timeout=PING_TIMEOUT_SECONDS
                ) as client,
            ):
                self._note_connection()
                while not self._stop_requested.is_set():
                    with suppress(TimeoutError):
                        channelled.drain_events(timeout=LISTEN_TIMEOUT_SECONDS)
                    if time.monotonic() - self._heard_at > QUIET_SECONDS:
                        client.ping()  # a broker that hangs keeps its connections open
                        self._heard_at = time.monotonic()
                    self._inspect_if_due()

    def _note_connection(self) -> None:
        with self._lock:
            if self._disconnected_since is not None:
                self._gaps.append((self._disconnected_since.timestamp(), time.time()))
            self._disconnected_since, self._has_inspected = None, False
            self._listening_since = self._heard_at = time.monotonic()
            self._inspected_at = 0.0

    def _inspect_if_due(self) -> None:
        with self._lock:
            is_incomplete = not self._has_inspected or any(
                name not in self._queues for name in self._state.workers
            )
        interval = SOON_INSPECT_INTERVAL_SECONDS if is_incomplete else INSPECT_INTERVAL_SECONDS
        if time.monotonic() - self._inspected_at > interval and not self._is_inspecting:
            self._inspected_at, self._is_inspecting = time.monotonic(), True
            threading.Thread(target=self._inspect_queues, name="inspect", daemon=True).start()

    def _handle_event(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._heard_at = time.monotonic()
            self._state.event(event)
            self._note_gateway(event)
            if event["type"] in ("task-failed", "task-retried") and not _is_progress(event):
                self._failed.append(self._build_failure(event))

    def _note_gateway(self, event: Mapping[str, Any]) -> None:
        """Note whether a task says that its gateway is unavailable, or available again."""
        if event["type"] not in ("task-retried", "task-succeeded"):
            return
        task = self._state.tasks.get(event["uuid"])
        key = parse_batch_key(str(getattr(task, "kwargs", None)).encode(errors="replace"))
        name = getattr(task, "name", None)
        if key is None or name is None:
            return
        if event["type"] == "task-succeeded":
            self._outages.add_success(key[0], name)
        else:
            exception, at = str(event.get("exception") or ""), float(event["local_received"])
            self._outages.add_failure(key[0], name, exception, at)

    def _build_failure(self, event: Mapping[str, Any]) -> FailedTask:
        task = self._state.tasks.get(event["uuid"])
        arguments = str(getattr(task, "kwargs", None))
        campaign, batch = parse_batch_key(arguments.encode(errors="replace")) or (None, None)
        return FailedTask(
            task=getattr(task, "name", None) or "unknown",
            campaign=campaign,
            batch=batch,
            error=str(event.get("exception") or "")[:MAX_ERROR_LENGTH],
            worker=str(event.get("hostname", "")),
            at=datetime.fromtimestamp(float(event["local_received"]), UTC),
            task_id=str(event["uuid"]),
            will_retry=event["type"] == "task-retried",
        )

    def _inspect_queues(self) -> None:
        """Ask the workers which queues they serve.

        Runs in a thread of its own, since kombu retries until the broker is available again.
        """
        try:
            answers = (
                self._app.control.inspect(timeout=LISTEN_TIMEOUT_SECONDS).active_queues() or {}
            )
        except Exception as error:  # as in `_run`
            logger.debug("inspection failed: %s", LogFields(error=error))
            return
        finally:
            self._is_inspecting = False
        with self._lock:
            self._has_inspected = True
            queues_before = {
                name: queues for name, queues in self._queues.items() if name in self._state.workers
            }
            self._queues = queues_before | {
                name: tuple(sorted(queue["name"] for queue in queues))
                for name, queues in answers.items()
            }


def _last_heard(worker: Worker) -> float:
    """Return the time of a worker's last event about itself, in seconds since 1970.

    It is the time of arrival: the clock of the worker's host may be wrong, and Celery mixes its
    times into the heartbeats.

    Before the first event it is 0, so that the worker isn't listed: Celery sets the time only then,
    though it knows the worker from the events of its tasks.
    """
    return float(getattr(worker, "local_received", None) or 0.0)


def _is_progress(event: Mapping[str, Any]) -> bool:
    """Return whether a task is retried only because segments of its batch are left."""
    return str(event.get("exception") or "").startswith(f"{SegmentsLeft.__name__}(")


def _ignore_connection_error(*_: object) -> None:
    """Replace kombu's own log line; `_run` logs the error."""
