"""Runs Celery tasks one by one in this process: with retries and chains, without a broker."""

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.app.trace import build_tracer
from celery.signals import before_task_publish

from tracker.record.catalog import Batch, Campaign
from tracker.status import Step
from tracker.store.database import Database
from workers import runtime
from workers.chains import StepArguments, enqueue_step
from workers.gateways.base import Gateway
from workers.gateways.throttle import Throttle, UnlimitedThrottle


class TaskKilled(BaseException):
    """The process of a task was killed, so the task has no result."""


class ScriptedResources(runtime.Resources):
    """The resources of a worker process on a test's database, with a test's gateway."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.gateway: Gateway | None = None

    def gateway_of(self, _campaign: Campaign) -> Gateway:
        assert self.gateway is not None
        return self.gateway

    def throttle_of(self, _campaign: Campaign) -> Throttle:
        return UnlimitedThrottle()


@dataclass
class QueuedTask:
    """A task as the broker has it."""

    name: str
    kwargs: dict[str, Any]
    request: dict[str, Any]
    countdown: float | None

    @property
    def chain(self) -> list[str]:
        """The tasks that follow, by name, in the order of their turn."""
        return [signature["task"] for signature in reversed(self.request["chain"])]


@dataclass
class TaskLoop:
    """A broker and a worker in one. Countdowns are noted, and not waited for."""

    app: Celery
    resources: ScriptedResources
    queue: deque[QueuedTask] = field(default_factory=deque)
    errors: list[BaseException] = field(default_factory=list)
    """The errors of tasks that failed and weren't retried."""

    def send_task(
        self,
        name: str,
        args: Any = (),
        kwargs: dict[str, Any] | None = None,
        countdown: float | None = None,
        **options: Any,
    ) -> None:
        """Stand in for `Celery.send_task`."""
        assert not args, "tasks take keyword arguments only"
        headers: dict[str, Any] = {}
        before_task_publish.send(sender=name, headers=headers)
        request = {
            **headers,
            "id": options.get("task_id") or str(uuid4()),
            "chain": json.loads(json.dumps(options.get("chain") or [])),
            "retries": options.get("retries") or 0,
            "kwargsrepr": options.get("kwargsrepr"),
            "hostname": "test",
            "delivery_info": {"exchange": "", "routing_key": "queued"},
        }
        self.queue.append(QueuedTask(name, dict(kwargs or {}), request, countdown))

    def enqueue(self, batch: Batch, step: Step, **flags: Any) -> None:
        """Enqueue a step of a batch."""
        arguments = StepArguments(campaign=batch.campaign.id, batch=batch.batch, **flags)
        enqueue_step(self.app, step, arguments, batch.campaign)

    def run_next(self) -> None:
        """Run the next task as a pool process does; a killed task is sent again, as by Celery."""
        queued = self.queue.popleft()
        task = self.app.tasks[queued.name]
        trace = build_tracer(task.name, task, app=self.app)
        try:
            _, outcome, *_ = trace(queued.request["id"], [], queued.kwargs, queued.request)
        except TaskKilled:
            queued.request["retries"] += 1
            self.queue.append(queued)
            return
        if outcome is not None and outcome.state == "FAILURE":
            self.errors.append(outcome.retval)

    def run_all(self, *, limit: int = 500) -> int:
        """Run tasks until none is left, and return how many those were."""
        for count in range(limit):
            if not self.queue:
                return count
            self.run_next()
        assert not self.queue, f"tasks are left after {limit}: {self.queue}"
        return limit
