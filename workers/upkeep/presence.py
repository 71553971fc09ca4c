"""Who works, and what failed: what Celery's workers say of themselves on the broker."""

import ast
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.events.state import State

from tracker.monitoring import FailedTask, WorkerActivity, WorkerInfo

logger = logging.getLogger(__name__)

SILENT_AFTER_SECONDS = 20.0
"""Seconds without a heartbeat after which a worker counts as silent: they beat every two."""

FORGET_AFTER_SECONDS = 3600.0
"""Seconds after which a silent worker is forgotten."""

MAX_TASKS, MAX_FAILURES = 2_000, 200
"""Tasks whose names are remembered, and failures that are."""

MAX_ERROR_LENGTH = 500
"""Characters of an error that are kept."""

INSPECT_INTERVAL_SECONDS = 30.0
"""Seconds between two questions which queues the workers serve."""

LISTEN_TIMEOUT_SECONDS = 1.0
"""Seconds of silence after which it is seen whether to go on."""

MAX_RECONNECT_SECONDS = 30.0
"""Seconds between two attempts to reach the broker, at most."""


class WorkerListener:
    """Listens to the workers in a thread of its own. Use it as a context manager."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._state = State(max_workers_in_memory=1_000, max_tasks_in_memory=MAX_TASKS)
        self._failed: deque[FailedTask] = deque(maxlen=MAX_FAILURES)
        self._queues: Mapping[str, Sequence[str]] = {}
        self._inspected_at = 0.0
        self._is_inspecting = False
        self._disconnected_since: datetime | None = datetime.now(UTC)
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
        """What is known now."""
        now = time.time()
        with self._lock:
            workers = [
                WorkerInfo(
                    name=name,
                    heard_at=datetime.fromtimestamp(worker.timestamp or 0.0, UTC),
                    # One that goes off says so, and its heartbeats are forgotten.
                    is_online=bool(worker.heartbeats)
                    and now - worker.heartbeats[-1] < SILENT_AFTER_SECONDS,
                    queues=self._queues.get(name, ()),
                )
                for name, worker in sorted(self._state.workers.items())
                if now - (worker.timestamp or 0.0) < FORGET_AFTER_SECONDS
            ]
            return WorkerActivity(
                workers=tuple(workers),
                failed=tuple(reversed(self._failed)),
                disconnected_since=self._disconnected_since,
            )

    def _run(self) -> None:
        pause = LISTEN_TIMEOUT_SECONDS
        while not self._stop_requested.is_set():
            try:
                self._listen()
                pause = LISTEN_TIMEOUT_SECONDS
            except Exception as error:  # whatever the broker's library raises: it is away
                logger.debug("the workers can't be heard: %s", error)
                with self._lock:
                    self._disconnected_since = self._disconnected_since or datetime.now(UTC)
                self._stop_requested.wait(pause)
                pause = min(2 * pause, MAX_RECONNECT_SECONDS)

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            receiver = self._app.events.Receiver(connection, handlers={"*": self._handle_event})
            receiver.connect_max_retries = 1  # we try again ourselves, and say since when
            receiver.on_connection_error = _ignore_connection_error
            with receiver.consumer_context(wakeup=True) as (channelled, _, _):
                with self._lock:
                    self._disconnected_since = None
                while not self._stop_requested.is_set():
                    with suppress(TimeoutError):
                        channelled.drain_events(timeout=LISTEN_TIMEOUT_SECONDS)
                    if (
                        time.monotonic() - self._inspected_at > INSPECT_INTERVAL_SECONDS
                        and not self._is_inspecting
                    ):
                        self._inspected_at, self._is_inspecting = time.monotonic(), True
                        threading.Thread(
                            target=self._inspect_queues, name="asking", daemon=True
                        ).start()

    def _handle_event(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._state.event(event)
            if event["type"] in ("task-failed", "task-retried"):
                self._failed.append(self._build_failure(event))

    def _build_failure(self, event: Mapping[str, Any]) -> FailedTask:
        task = self._state.tasks.get(event["uuid"])
        told = _parse_arguments(getattr(task, "kwargs", None))
        return FailedTask(
            task=getattr(task, "name", None) or "unknown",
            campaign=told.get("campaign"),
            batch=told.get("batch"),
            error=str(event.get("exception") or "")[:MAX_ERROR_LENGTH],
            worker=str(event.get("hostname", "")),
            at=datetime.fromtimestamp(float(event.get("timestamp") or time.time()), UTC),
            task_id=str(event["uuid"]),
            will_retry=event["type"] == "task-retried",
        )

    def _inspect_queues(self) -> None:
        """In a thread of its own: should the broker go away now, kombu tries until it is back."""
        try:
            answers = (
                self._app.control.inspect(timeout=LISTEN_TIMEOUT_SECONDS).active_queues() or {}
            )
        except Exception as error:  # as above
            logger.debug("the workers can't be asked: %s", error)
            return
        finally:
            self._is_inspecting = False
        found = {
            name: tuple(sorted(queue["name"] for queue in queues))
            for name, queues in answers.items()
        }
        with self._lock:
            self._queues = {**self._queues, **found}


def _ignore_connection_error(*_: object) -> None:
    """Nobody reads what kombu would say of a broker that is away."""


def _parse_arguments(arguments: object) -> dict[str, int]:
    """Campaign and batch of a task's arguments as :func:`workers.queues.format_task_arguments` shows
    them; nothing where they say something else."""
    try:
        read = ast.literal_eval(str(arguments))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    if not isinstance(read, dict):
        return {}
    return {key: read[key] for key in ("campaign", "batch") if isinstance(read.get(key), int)}
