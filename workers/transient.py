"""Retries after transient errors, and the back-off from an unavailable gateway."""

import random
from datetime import timedelta
from typing import Any

from celery import Task
from celery.canvas import Signature
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError

from workers.services.base import ServiceUnavailable

TRANSIENT_ERRORS = (OperationalError, BrokerError, RedisError, ServiceUnavailable)
"""Errors that pass by themselves: the database, the broker or a service is restarting or busy."""

MIN_GATEWAY_BACKOFF_SECONDS, MAX_GATEWAY_BACKOFF_SECONDS = 1.0, 30.0
"""Shortest and longest back-off from an unavailable gateway, on the campaign's clock."""

MIN_REAL_BACKOFF_SECONDS = 0.1
"""Shortest back-off in real time, however fast the campaign's clock runs."""


class RetryingTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task that Celery retries after a transient error, later each time."""

    abstract = True
    autoretry_for = TRANSIENT_ERRORS
    retry_backoff = 1  # seconds, doubled with each retry
    retry_backoff_max = 30  # seconds
    max_retries = 20
    default_retry_delay = 1  # seconds; used after the process of a task was killed

    def signature_from_request(self, request: Any = None, *args: Any, **options: Any) -> Signature:
        """Return the signature of a retry, which Flower shows with the same arguments."""
        request = request or self.request
        return super().signature_from_request(
            request, *args, kwargsrepr=request.get("kwargsrepr"), **options
        )


def compute_backoff(unavailable_count: int, speed: float) -> timedelta:
    """Return the real time to wait before a gateway is called again.

    The wait doubles with each failure and is jittered, so batches that failed together don't return
    together. The number of retries is unlimited: waiting loses nothing.

    Args:
        unavailable_count: how many times in a row the gateway was unavailable before.
        speed: how many times as fast as real time the campaign's clock runs.
    """
    doubled = MIN_GATEWAY_BACKOFF_SECONDS * 2.0 ** min(unavailable_count, 10)
    longest = min(MAX_GATEWAY_BACKOFF_SECONDS, doubled) / speed
    longest = max(2 * MIN_REAL_BACKOFF_SECONDS, longest)
    return timedelta(seconds=random.uniform(longest / 2, longest))  # noqa: S311  # no secret
