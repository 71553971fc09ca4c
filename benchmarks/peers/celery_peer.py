"""Celery with Redis: a chain of four tasks, for one message or for a batch.

Settings as Celery's guides to optimizing and to canvas advise: chains instead of tasks that wait,
a group to enqueue them, a large prefetch for short tasks, and no results.
Enqueue messages with `python -m benchmarks.peers.celery_peer enqueue MESSAGES BATCH_SIZE`.
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache

import psycopg
from celery import Celery, Task, chain, group

from benchmarks.peers.record import (
    BROKER_VARIABLE,
    DATABASE_VARIABLE,
    Span,
    Step,
    enqueue_messages,
    step_statement,
)

PREFETCH = 64
"""Tasks that a process reserves; Celery's guide suggests 64 or 128 for short tasks."""

app = Celery("celery_peer", broker=os.environ[BROKER_VARIABLE])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=PREFETCH,
    broker_connection_retry_on_startup=True,
)


@cache
def connect() -> psycopg.Connection:
    """Return the connection of this process, which runs one task at a time."""
    return psycopg.connect(os.environ[DATABASE_VARIABLE], autocommit=True)


def register(step: Step) -> Task:
    """Register the task of a step."""

    def run(first: int, last: int) -> None:
        connect().execute(*step_statement(step, first, last))

    task: Callable[..., Task] = app.task
    return task(run, name=step.value)


tasks = [register(step) for step in Step]


def enqueue_chains(spans: Sequence[Span]) -> None:
    """Enqueue the chain of each span."""
    group(chain(task.si(*span) for task in tasks) for span in spans).apply_async()


if __name__ == "__main__":
    enqueue_messages(int(sys.argv[2]), int(sys.argv[3]), enqueue_chains)
