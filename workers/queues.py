"""The queues: one a stage, the broker they are in, and how much waits in each."""

import json
from base64 import b64decode
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tracker.errors import UsageError
from tracker.status import Step

QUEUE_OF = MappingProxyType(
    {
        Step.SUPPRESS: "queued",
        Step.VALIDATE: "queued",
        Step.DISPATCH: "queued",
        Step.SUBMIT: "about_to_be_sent",
        Step.DELIVER: "gateway",
        Step.ENGAGE: "delivery",
    }
)
"""The queue that a step's tasks are sent to."""

UPKEEP = "upkeep"
"""The queue of what is done for all campaigns from time to time."""

ROLLUP = "workers.rollup"
"""The name of the Celery task that rolls engagement up."""

QUEUES = (*dict.fromkeys(QUEUE_OF.values()), UPKEEP)
"""Every queue that a worker must serve, in the order of the stages."""

UNACKED = "unacked"
"""Where kombu's Redis transport keeps the tasks that workers hold: a hash, one field a task."""

DEPTHS = Path(__file__).with_name("depths.lua")

UNUSABLE = "the broker's URL is not one that can be used; expected redis://HOST:PORT/0"


def task_name(step: Step) -> str:
    """The name of the Celery task that does a step."""
    return f"workers.{step}"


def shown_arguments(campaign_id: int, name: str, batch: int) -> str:
    """What Flower shows of a task's arguments, and finds it by: ``kwargs:name=diwali-email``."""
    return repr({"campaign": campaign_id, "batch": batch, "name": name})


def broker_client(url: str, *, timeout: float) -> Redis:
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
        raise UsageError(UNUSABLE) from None


@dataclass(frozen=True)
class Depth:
    """Tasks of one queue: ``ready`` to be taken, and ``unacked``, which a worker holds.

    A worker also holds what it has been told to do a little later.
    """

    ready: int
    unacked: int


def depths(client: Redis) -> dict[str, Depth]:
    """How deep each queue is. Raises :exc:`redis.exceptions.RedisError`."""
    script = client.register_script(DEPTHS.read_text(encoding="utf-8"))
    counts = iter(script(keys=[UNACKED, *QUEUES]))
    return {queue: Depth(int(next(counts)), int(next(counts))) for queue in QUEUES}


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
