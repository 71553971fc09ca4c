"""Tasks that are delivered twice, as a broker may do that has lost sight of them."""

import json
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError

from simulator.draws import DrawPurpose, draw_uniforms
from workers.queues import QUEUES
from workers.upkeep.broker import UNACKED_KEY

SCAN_INTERVAL_SECONDS = 0.01
"""Seconds between two looks at the queues. What is taken within that is seen with its worker."""

MAX_SCANNED_TASKS = 1_000
"""Tasks of a queue that are looked at: those that come next."""


class TaskDuplicator:
    """Puts a ``share`` of the tasks into their queues once more, each when it is first seen."""

    def __init__(self, client: Redis, share: float, seed: int) -> None:
        self._client, self._share, self._seed = client, share, seed
        self._seen = set[str]()
        self.duplicated_count = 0
        """Tasks that were sent again so far."""

    def run_until(self, stop: threading.Event) -> None:
        """Look again and again, until it is to stop."""
        while not stop.wait(SCAN_INTERVAL_SECONDS):
            try:
                self.duplicate_new_tasks()
            except RedisError:
                continue  # it is away, and comes back

    def duplicate_new_tasks(self) -> None:
        """Draw for each task that was not seen before, and send some of them again."""
        for queue, message in self._read_tasks():
            task_id = message["headers"]["id"]
            if task_id in self._seen:
                continue
            drawn = draw_uniforms(self._seed, "", DrawPurpose.DUPLICATE_TASK, len(self._seen), 1)
            self._seen.add(task_id)
            if drawn[0, 0] < self._share:
                # Each delivery has a tag of its own, by which it is acknowledged.
                message["properties"]["delivery_tag"] = str(uuid4())
                self._client.lpush(queue, json.dumps(message))
                self.duplicated_count += 1

    def _read_tasks(self) -> Iterator[tuple[str, Any]]:
        """The queue and the message of the tasks that wait, and of those that workers hold."""
        for queue in QUEUES:
            for raw in self._client.lrange(queue, -MAX_SCANNED_TASKS, -1):
                yield queue, json.loads(raw)
        for raw in self._client.hvals(UNACKED_KEY):
            message, _, queue = json.loads(raw)
            yield queue, message
