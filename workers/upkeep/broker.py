"""The broker as sendtrace sees it: how deep its queues are, and which batches have a task in it."""

import json
import re
from base64 import b64decode
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tracker.errors import UsageError
from tracker.monitoring import QueueDepth
from workers.queues import QUEUES

UNACKED_KEY = "unacked"
"""Where kombu's Redis transport keeps the tasks that workers hold: a hash, one field a task."""


UNACKED_INDEX_KEY = "unacked_index"
"""Since when workers hold those: a sorted set, by the seconds since 1970."""


TASKS_PER_READ = 1_000
"""Tasks that are read from the broker at once."""


BATCH_PATTERN = re.compile(rb"'campaign': (\d+), 'batch': (\d+)")
"""Of which batch a task is: as Celery and we (:func:`format_task_arguments`) write its arguments."""


DEPTHS_SCRIPT = Path(__file__).with_name("depths.lua")


INVALID_BROKER_URL = "the broker's URL is not one that can be used; expected redis://HOST:PORT/0"


def make_broker_client(url: str, *, timeout: float) -> Redis:
    """A client of the broker at a URL as Celery knows it. It tries once, for ``timeout`` seconds.

    Raises :exc:`UsageError` for what is no Redis or Valkey.
    """
    try:
        return Redis.from_url(
            url.replace("redis+socket://", "unix://", 1),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        raise UsageError(INVALID_BROKER_URL) from None


def depths(client: Redis) -> dict[str, QueueDepth]:
    """How deep each queue is. Raises :exc:`redis.exceptions.RedisError`."""
    script = client.register_script(DEPTHS_SCRIPT.read_text(encoding="utf-8"))
    counts = iter(script(keys=[UNACKED_KEY, *QUEUES]))
    return {queue: QueueDepth(int(next(counts)), int(next(counts))) for queue in QUEUES}


BatchKey = tuple[int, int]
"""A campaign's id, and a batch of it."""


def read_ready_batches(client: Redis) -> Iterator[BatchKey]:
    """The batches that have a task in a queue, read bit by bit.

    What comes or goes meanwhile may be seen twice, or not at all.
    """
    for queue in QUEUES:
        first = 0
        while raws := client.lrange(queue, first, first + TASKS_PER_READ - 1):
            yield from filter(None, map(_parse_batch_key, raws))  # type: ignore[arg-type]  # it gives bytes
            first += TASKS_PER_READ


class HeldTask(NamedTuple):
    """A task that a worker took at ``held_since``, in seconds since 1970: its ``id``, its batch, and
    when it is to be done at the earliest, if that was said."""

    id: str
    batch: BatchKey
    held_since: float
    eta: float | None


def read_held_tasks(client: Redis) -> Iterator[HeldTask]:
    """The tasks of batches that workers have taken and not acknowledged, read bit by bit."""
    held_since = dict(client.zrange(UNACKED_INDEX_KEY, 0, -1, withscores=True))  # type: ignore[arg-type]
    for tag, raw in client.hscan_iter(UNACKED_KEY, count=TASKS_PER_READ):
        batch = _parse_batch_key(raw)
        if batch is not None:
            headers = json.loads(raw)[0]["headers"]
            eta = headers.get("eta")
            yield HeldTask(
                id=headers["id"],
                batch=batch,
                held_since=float(held_since.get(tag, 0.0)),
                eta=None if eta is None else datetime.fromisoformat(eta).timestamp(),
            )


def _parse_batch_key(raw: bytes) -> BatchKey | None:
    found = BATCH_PATTERN.search(raw)
    return None if found is None else (int(found[1]), int(found[2]))


def drop_tasks(client: Redis, campaigns: Collection[int]) -> int:
    """Take the ready tasks of some campaigns out of their queues, and say how many those were."""
    dropped = 0
    for queue in QUEUES:
        for raw in client.lrange(queue, 0, -1):
            _, told, *_ = json.loads(b64decode(json.loads(raw)["body"]))
            if told.get("campaign") in campaigns:
                dropped += int(client.lrem(queue, 1, raw))  # type: ignore[arg-type]  # it takes bytes
    return dropped


def waiting_tasks(client: Redis) -> int:
    """Tasks that the broker knows of: ready in a queue, or held by a worker."""
    return sum(depth.ready + depth.unacked for depth in depths(client).values())
