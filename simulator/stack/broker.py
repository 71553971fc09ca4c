"""The driver's side of the broker: is it there, are there workers, does it still hold tasks."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.utils.url import maybe_sanitize_url
from redis.exceptions import RedisError

from simulator.stack.announcement import find_stack
from tracker.errors import BrokerFailed, BrokerUnreachable, UsageError
from tracker.monitoring import QueueDepth
from tracker.settings import Settings
from tracker.store.database import Database
from workers.queues import QUEUES
from workers.upkeep.broker import (
    INVALID_BROKER_URL,
    depths,
    drop_tasks,
    make_broker_client,
    waiting_tasks,
)
from workers.upkeep.sweep import RequeuedBatch, requeue_stalled_batches

ANSWER_TIMEOUT = 5.0
"""Seconds to wait for a broker, and for workers to say which queues they serve."""


class Broker:
    """A Redis or Valkey that Celery's tasks go through."""

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self.redacted_url = maybe_sanitize_url(url)
        except ValueError:
            raise UsageError(INVALID_BROKER_URL) from None
        self._client = make_broker_client(url, timeout=ANSWER_TIMEOUT)

    def check_reachable(self) -> None:
        """Raise :exc:`BrokerUnreachable`, with the cause, or return."""
        try:
            self._client.ping()
        except (RedisError, OSError) as error:
            raise BrokerUnreachable(
                f"the broker {self.redacted_url} does not answer: {self._format_cause(error)}"
            ) from None

    def check_workers(self, app: Celery) -> None:
        """Raise :exc:`UsageError` if a queue is served by none of the workers that run."""
        try:
            answers = app.control.inspect(timeout=ANSWER_TIMEOUT / 2).active_queues() or {}
        except (OperationalError, OSError) as error:
            raise BrokerUnreachable(
                f"the broker {self.redacted_url} does not answer: {self._format_cause(error)}"
            ) from None
        served = {queue["name"] for queues in answers.values() for queue in queues}
        missing = [queue for queue in QUEUES if queue not in served]
        if missing:
            raise UsageError(
                f"no worker on {self.redacted_url} serves {', '.join(missing)}; start one with\n"
                f"  celery -A workers.app worker -Q {','.join(QUEUES)}"
            )

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """A block in which an error of the broker's becomes one clear :exc:`BrokerFailed`."""
        try:
            yield
        except (RedisError, OperationalError) as error:
            raise BrokerFailed(
                f"the broker {self.redacted_url} failed: {self._format_cause(error)}"
            ) from error

    def _format_cause(self, error: Exception) -> str:
        """The first line of what was said, fit to be shown."""
        said = str(error).strip()
        cause = said.splitlines()[0] if said else type(error).__name__
        secret = urlsplit(self.url).password
        return cause.replace(unquote(secret), "***").replace(secret, "***") if secret else cause

    def count_waiting_tasks(self) -> int:
        """Tasks that are queued or being worked on."""
        return waiting_tasks(self._client)

    def depths(self) -> dict[str, QueueDepth]:
        """How deep each queue is."""
        return depths(self._client)

    def drop_tasks(self, campaigns: Collection[int]) -> int:
        """Take the tasks of some campaigns that no worker has out of the queues; how many."""
        return drop_tasks(self._client, campaigns)

    def sweep(
        self, database: Database, app: Celery, campaign_ids: Collection[int] | None = None
    ) -> list[RequeuedBatch]:
        """Re-queue stalled batches: see `workers.upkeep.sweep.requeue_stalled_batches`."""
        return requeue_stalled_batches(database, app, self._client, campaign_ids)

    def close(self) -> None:
        self._client.close()


def open_configured_broker(settings: Settings, wanted_by: str) -> Broker:
    """The broker of the settings, or of the stack that runs on them, which must answer.

    Raises :exc:`UsageError` where there is none, or its workers use another database.
    """
    stack = None if settings.broker_url else find_stack(settings.home)
    url = settings.broker_url or (stack and stack["broker"])
    if not url:
        raise UsageError(
            f"{wanted_by} needs a broker, and no `sendtrace up` runs on {settings.home}; start it,"
            " set SENDTRACE_BROKER_URL or give --broker URL"
        )
    if stack and stack["database"] != settings.resolved_database_url:
        raise UsageError(
            "the workers of `sendtrace up` use another database; give the same to both"
        )
    broker = Broker(url)
    broker.check_reachable()
    return broker
