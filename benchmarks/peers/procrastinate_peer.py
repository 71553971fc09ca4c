"""Procrastinate, whose queue is in PostgreSQL: each job defers the next one, in its transaction.

As procrastinate's guides advise: asynchronous tasks with several jobs at once in each of several
processes, `batch_defer` for many jobs, the application's own connection for atomic changes, and
successful jobs deleted. Procrastinate has no chains.
"""

import os
from collections.abc import Awaitable, Sequence
from itertools import pairwise

from procrastinate import App, PsycopgConnector
from procrastinate.tasks import Task

from benchmarks.peers import record

CONCURRENCY = 10
"""Jobs that a process runs at once."""

POLL_SECONDS = 0.1
"""A job whose notification arrives during a fetch waits for the next poll, by default 5 s."""

WORKER_CONNECTIONS = 4
"""Connections that a worker itself needs, beside one for the transaction of each job."""

connector = PsycopgConnector(
    conninfo=os.environ[record.DATABASE_VARIABLE], max_size=CONCURRENCY + WORKER_CONNECTIONS
)
app = App(
    connector=connector,
    worker_defaults={
        "concurrency": CONCURRENCY,
        "fetch_job_polling_interval": POLL_SECONDS,
        "delete_jobs": "successful",
    },
)

next_steps: dict[record.Step, record.Step] = dict(pairwise(record.Step))


def register(step: record.Step) -> Task[[int, int], Awaitable[None], [int, int]]:
    """Register the task of a step."""

    async def run(first: int, last: int) -> None:
        async with connector.pool.connection() as connection:
            await connection.execute(*record.step_statement(step, first, last))
            if step in next_steps:
                next_task = tasks[next_steps[step]].configure(connection=connection)
                await next_task.defer_async(first=first, last=last)

    return app.task(run, name=step.value)


tasks = {step: register(step) for step in record.Step}


def defer_jobs(spans: Sequence[record.Span]) -> None:
    """Defer the first job of each span."""
    tasks[record.Step.CHECK].batch_defer(*({"first": first, "last": last} for first, last in spans))


if __name__ == "__main__":
    with app.open():
        record.enqueue_messages(defer_jobs)
