"""The driver's view of the broker: does it answer, what does it hold, which workers serve it."""

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
from tracker.text import hide_secrets
from workers.queues import QUEUES
from workers.upkeep.broker import count_tasks, drop_tasks, make_broker_client, read_queue_depths
from workers.upkeep.sweep import RequeuedBatch, requeue_stalled_batches

ANSWER_TIMEOUT_SECONDS = 5.0
"""Seconds that a broker has to answer. Workers have half of it to list their queues."""


class Broker:
    """A Redis or Valkey that Celery's tasks go through.

    Raises:
        UsageError: the URL isn't one of a Redis or Valkey, or has an unknown option.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = make_broker_client(url, timeout=ANSWER_TIMEOUT_SECONDS)
        self.redacted_url = maybe_sanitize_url(url)

    def check_reachable(self) -> None:
        """Raise BrokerUnreachable, with the cause, unless the broker answers."""
        try:
            self._client.ping()
        except (RedisError, OSError) as error:
            raise self._make_unreachable_error(error) from None

    def check_workers(self, app: Celery) -> None:
        """Raise UsageError if no running worker serves one of the queues."""
        try:
            replies = app.control.inspect(timeout=ANSWER_TIMEOUT_SECONDS / 2).active_queues() or {}
        except (OperationalError, OSError) as error:
            raise self._make_unreachable_error(error) from None
        served = {queue["name"] for queues in replies.values() for queue in queues}
        missing = [queue for queue in QUEUES if queue not in served]
        if missing:
            raise UsageError(
                f"no worker on {self.redacted_url} serves {', '.join(missing)}; start one with\n"
                f"  celery -A workers.app worker -Q {','.join(QUEUES)}"
            )

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Turn the broker's errors within the block into one line of BrokerFailed."""
        try:
            yield
        except (RedisError, OperationalError) as error:
            raise BrokerFailed(
                f"the broker {self.redacted_url} failed: {self._format_cause(error)}"
            ) from error

    def _make_unreachable_error(self, error: Exception) -> BrokerUnreachable:
        return BrokerUnreachable(
            f"the broker {self.redacted_url} does not answer: {self._format_cause(error)}"
        )

    def _format_cause(self, error: Exception) -> str:
        """Return the first line of an error without the broker's password."""
        lines = str(error).strip().splitlines()
        cause = lines[0] if lines else type(error).__name__
        password = urlsplit(self.url).password or ""
        return hide_secrets(cause, {password, unquote(password)})

    def count_waiting_tasks(self) -> int:
        """Return the number of tasks that are queued or held by a worker."""
        return count_tasks(self._client)

    def depths(self) -> dict[str, QueueDepth]:
        """Return the depth of each queue."""
        return read_queue_depths(self._client)

    def drop_tasks(self, campaigns: Collection[int]) -> int:
        """Remove the queued tasks of some campaigns; return how many there were."""
        return drop_tasks(self._client, campaigns)

    def sweep(
        self, database: Database, app: Celery, campaign_ids: Collection[int] | None = None
    ) -> list[RequeuedBatch]:
        """Re-queue stalled batches, of some campaigns or of all."""
        return requeue_stalled_batches(database, app, self._client, campaign_ids)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def open_configured_broker(settings: Settings, requested_by: str) -> Broker:
    """Open the broker of the settings, or of the stack that runs on their state folder.

    Args:
        requested_by: the command or option that needs the broker, for the error.

    Raises:
        UsageError: no broker is configured, it doesn't answer, or its workers use another database.
    """
    stack = None if settings.broker_url else find_stack(settings.home)
    url = settings.broker_url or (stack and stack.broker)
    if not url:
        raise UsageError(
            f"{requested_by} needs a broker, and no `sendtrace up` runs on {settings.home};"
            " start it, set SENDTRACE_BROKER_URL or give --broker URL"
        )
    if stack and stack.database != settings.resolved_database_url:
        raise UsageError(
            "the workers of `sendtrace up` use another database; give both the same --database"
        )
    broker = Broker(url)
    broker.check_reachable()
    return broker
