"""Stop taking tasks once the database doesn't have the schema of this version any more.

A process of the pool notices it, gives its task back, and tells the worker's main process. That
keeps running without taking tasks: a supervisor would restart a worker that ends again and again.
The tasks wait in their queues for workers of the other version.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import Task
from celery.exceptions import Reject
from celery.worker.control import control_command
from kombu.exceptions import OperationalError

from tracker.errors import SchemaMismatch
from tracker.output.logs import LogFields

logger = logging.getLogger(__name__)


@contextmanager
def stopping_on_schema_change(task: Task) -> Iterator[None]:
    """Give a task back to its queue, and stop the worker, if the schema isn't ours in the block."""
    try:
        yield
    except SchemaMismatch as error:
        with suppress(OperationalError, OSError):  # the task is delivered again
            task.app.control.broadcast(
                stop_taking_tasks.__name__,
                arguments={"reason": str(error)},
                destination=[task.request.hostname],
            )
        raise Reject(str(error), requeue=True) from None


@control_command(args=[("reason", str)], signature="REASON")  # type: ignore[untyped-decorator]
def stop_taking_tasks(state: Any, reason: str, **_: object) -> None:
    """Stop taking tasks from all queues, and log the reason; the worker goes on running."""
    consumer = state.consumer
    queues = [queue.name for queue in consumer.task_consumer.queues]
    for queue in queues:
        consumer.cancel_task_queue(queue)
    if queues:  # several processes of the pool may say so
        logger.error("taking no more tasks: %s", LogFields(error=reason))
