"""Deliver some tasks twice, as a broker may do."""

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
"""Seconds between two scans of the queues and of the tasks that workers hold."""

MAX_SCANNED_TASKS = 1_000
"""Tasks of a queue that a scan reads: the next ones to be taken."""


class TaskDuplicator:
    """A duplicator that sends a share of the tasks a second time, each when it is first seen."""

    def __init__(self, client: Redis, share: float, seed: int) -> None:
        self._client, self._share, self._seed = client, share, seed
        self._seen = set[str]()
        self.duplicated_count = 0
        """The number of tasks that were sent a second time."""

    def run_until(self, stop: threading.Event) -> None:
        """Scan the queues until `stop` is set."""
        while not stop.wait(SCAN_INTERVAL_SECONDS):
            try:
                self.duplicate_new_tasks()
            except RedisError:
                continue  # the broker is unavailable; scan again later

    def duplicate_new_tasks(self) -> None:
        """Send some of the tasks a second time that were not seen before."""
        for queue, message in self._read_tasks():
            task_id = message["headers"]["id"]
            if task_id in self._seen:
                continue
            draws = draw_uniforms(self._seed, "", DrawPurpose.DUPLICATE_TASK, len(self._seen), 1)
            self._seen.add(task_id)
            if draws[0, 0] < self._share:
                # A delivery is acknowledged by its own tag.
                message["properties"]["delivery_tag"] = str(uuid4())
                self._client.lpush(queue, json.dumps(message))
                self.duplicated_count += 1

    def _read_tasks(self) -> Iterator[tuple[str, Any]]:
        """Yield the queue and the message of each task that is ready or held by a worker."""
        for queue in QUEUES:
            for raw in self._client.lrange(queue, -MAX_SCANNED_TASKS, -1):
                yield queue, json.loads(raw)
        for raw in self._client.hvals(UNACKED_KEY):
            message, _, queue = json.loads(raw)
            yield queue, message
