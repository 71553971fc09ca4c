"""Celery with Redis: a chain of four tasks, for one message or for a batch.

Settings as Celery's guides to optimizing and to canvas advise: chains instead of tasks that wait,
a group to enqueue them, a large prefetch for short tasks, and no results.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache

import psycopg
from celery import Celery, Task, chain, group

from benchmarks.peers import record

PREFETCH = 64
"""Tasks that a process reserves; Celery's guide suggests 64 or 128 for short tasks."""

app = Celery("celery_peer", broker=os.environ[record.BROKER_VARIABLE])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=PREFETCH,
    broker_connection_retry_on_startup=True,
)


@cache
def connect() -> psycopg.Connection:
    """Return the connection of this process, which runs one task at a time."""
    return psycopg.connect(os.environ[record.DATABASE_VARIABLE], autocommit=True)


def register(step: record.Step) -> Task:
    """Register the task of a step."""

    def run(first: int, last: int) -> None:
        connect().execute(*record.step_statement(step, first, last))

    task: Callable[..., Task] = app.task
    return task(run, name=step.value)


tasks = [register(step) for step in record.Step]


def enqueue_chains(spans: Sequence[record.Span]) -> None:
    """Enqueue the chain of each span."""
    group(chain(task.si(*span) for task in tasks) for span in spans).apply_async()


if __name__ == "__main__":
    record.enqueue_messages(enqueue_chains)
