"""Read the broker directly: the depths of its queues, and the batches that have a task there."""

import json
import re
import time
from base64 import b64decode
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tracker.monitoring import QueueDepth
from tracker.record.catalog import BatchKey
from workers.queues import QUEUES
from workers.upkeep.broker_url import make_client_url

UNACKED_KEY = "unacked"
"""The hash in which kombu's Redis transport keeps the tasks that workers hold, by delivery tag."""

UNACKED_INDEX_KEY = "unacked_index"
"""The sorted set with the time at which each of them was taken, in seconds since 1970."""

SWEEP_KEY, SWEEP_KEY_SECONDS = "sendtrace.sweep", 86_400
"""The key that each sweep of beat renews, and its life in seconds."""

TASKS_PER_READ = 1_000

BATCH_PATTERN = re.compile(rb"'campaign': (\d+), 'batch': (\d+)")
"""The batch of a task, in its arguments as Celery and `format_task_arguments` write them."""

DEPTHS_SCRIPT = Path(__file__).with_name("depths.lua")


def make_broker_client(url: str, *, timeout: float) -> Redis:
    """Return a client of a broker that doesn't retry.

    Args:
        timeout: seconds to wait for a connection, and for an answer.

    Raises:
        UsageError: the URL isn't one of Redis or Valkey, or has an unknown option.
    """
    return Redis.from_url(
        make_client_url(url),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )


def read_queue_depths(client: Redis) -> dict[str, QueueDepth]:
    """Return the depth of each queue, counted at one moment."""
    script = client.register_script(DEPTHS_SCRIPT.read_text(encoding="utf-8"))
    counts = iter(script(keys=[UNACKED_KEY, *QUEUES]))
    return {queue: QueueDepth(int(next(counts)), int(next(counts))) for queue in QUEUES}


def read_ready_batches(client: Redis) -> Iterator[BatchKey]:
    """Yield the batches that have a task in a queue, in several requests.

    A task that is added or taken meanwhile may be yielded twice, or not at all.
    """
    for queue in QUEUES:
        first = 0
        while raws := client.lrange(queue, first, first + TASKS_PER_READ - 1):
            yield from filter(None, map(parse_batch_key, raws))  # type: ignore[arg-type]  # redis returns bytes
            first += TASKS_PER_READ


def record_sweep(client: Redis) -> None:
    """Note in the broker that a sweep begins now."""
    client.set(SWEEP_KEY, 1, ex=SWEEP_KEY_SECONDS)


def read_sweep_age(client: Redis) -> float | None:
    """Return the seconds since the last sweep began, None if none did for SWEEP_KEY_SECONDS.

    It is derived from the key's remaining life, so the clocks of the machines don't matter.
    """
    remaining = int(client.pttl(SWEEP_KEY))
    return None if remaining < 0 else SWEEP_KEY_SECONDS - remaining / 1_000


class HeldTask(NamedTuple):
    """A task that a worker has taken and not acknowledged.

    Attributes:
        held_since: when it was taken, in seconds since 1970.
        eta: when it may run at the earliest, in seconds since 1970; None for at once.
    """

    id: str
    batch: BatchKey
    held_since: float
    eta: float | None


def read_held_tasks(client: Redis) -> Iterator[HeldTask]:
    """Yield the tasks of batches that workers hold, in several requests."""
    read_at = time.time()
    held_since = dict(client.zrange(UNACKED_INDEX_KEY, 0, -1, withscores=True))  # type: ignore[arg-type]
    for tag, raw in client.hscan_iter(UNACKED_KEY, count=TASKS_PER_READ):
        batch = parse_batch_key(raw)
        if batch is not None:
            headers = json.loads(raw)[0]["headers"]
            eta = headers.get("eta")
            yield HeldTask(
                id=headers["id"],
                batch=batch,
                held_since=float(held_since.get(tag, read_at)),  # taken since the index was read
                eta=None if eta is None else datetime.fromisoformat(eta).timestamp(),
            )


def parse_batch_key(task: bytes) -> BatchKey | None:
    """Return the batch that a task's arguments name, or None."""
    match = BATCH_PATTERN.search(task)
    return None if match is None else (int(match[1]), int(match[2]))


def drop_tasks(client: Redis, campaigns: Collection[int]) -> int:
    """Remove the ready tasks of some campaigns from their queues, and return their number."""
    dropped = 0
    for queue in QUEUES:
        for raw in client.lrange(queue, 0, -1):
            _, kwargs, *_ = json.loads(b64decode(json.loads(raw)["body"]))
            if kwargs.get("campaign") in campaigns:
                dropped += int(client.lrem(queue, 1, raw))  # type: ignore[arg-type]  # redis takes bytes
    return dropped


def count_tasks(client: Redis) -> int:
    """Return the number of tasks that are ready in a queue or held by a worker."""
    return sum(depth.ready + depth.unacked for depth in read_queue_depths(client).values())
