"""Procrastinate, whose queue is in PostgreSQL: each job defers the next one, in its transaction.

As procrastinate's guides advise: asynchronous tasks with several jobs at once in each of several
processes, `batch_defer` for many jobs, the application's own connection for atomic changes, and
successful jobs deleted. Procrastinate has no chains.
Enqueue messages with `python -m benchmarks.peers.procrastinate_peer enqueue MESSAGES BATCH_SIZE`.
"""

import os
import sys
from collections.abc import Awaitable, Sequence
from itertools import pairwise

from procrastinate import App, PsycopgConnector
from procrastinate.tasks import Task

from benchmarks.peers.record import (
    DATABASE_VARIABLE,
    Span,
    Step,
    enqueue_messages,
    step_statement,
)
from benchmarks.peers.systems import PROCRASTINATE_CONCURRENCY

WORKER_CONNECTIONS = 4
"""Connections that a worker itself needs, beside one for the transaction of each job."""

connector = PsycopgConnector(
    conninfo=os.environ[DATABASE_VARIABLE], max_size=PROCRASTINATE_CONCURRENCY + WORKER_CONNECTIONS
)
app = App(connector=connector)

next_steps: dict[Step, Step] = dict(pairwise(Step))


def register(step: Step) -> Task[[int, int], Awaitable[None], [int, int]]:
    """Register the task of a step."""

    async def run(first: int, last: int) -> None:
        async with connector.pool.connection() as connection:
            await connection.execute(*step_statement(step, first, last))
            if step in next_steps:
                next_task = tasks[next_steps[step]].configure(connection=connection)
                await next_task.defer_async(first=first, last=last)

    return app.task(run, name=step.value)


tasks = {step: register(step) for step in Step}


def defer_jobs(spans: Sequence[Span]) -> None:
    """Defer the first job of each span."""
    tasks[Step.CHECK].batch_defer(*({"first": first, "last": last} for first, last in spans))


if __name__ == "__main__":
    with app.open():
        enqueue_messages(int(sys.argv[2]), int(sys.argv[3]), defer_jobs)
