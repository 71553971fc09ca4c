"""Dramatiq with Redis: a pipeline of four actors, for one message or for a batch.

As Dramatiq's guide advises: pipelines and groups to compose actors, short messages, the command's
own number of processes and threads, and actors that may run twice. Threads share a pool of
connections.
"""

import os
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from psycopg_pool import ConnectionPool

from benchmarks.peers import record

THREADS = 8
"""Threads of a worker process, Dramatiq's default: each needs a connection at times."""

SOCKET_URL = os.environ[record.BROKER_VARIABLE].replace("redis+socket://", "unix://")
"""The address of the broker, as redis-py writes it."""

broker = RedisBroker(url=SOCKET_URL)
dramatiq.set_broker(broker)


pool = ConnectionPool(
    os.environ[record.DATABASE_VARIABLE],
    min_size=THREADS,
    max_size=THREADS,
    kwargs={"autocommit": True},
    open=False,
)


def register(step: record.Step) -> dramatiq.Actor[[int, int], None]:
    """Register the actor of a step."""

    def run(first: int, last: int) -> None:
        pool.open()  # by the first actor of the process; does nothing after that
        with pool.connection() as connection:
            connection.execute(*record.step_statement(step, first, last))

    return dramatiq.actor(run, actor_name=step.value)


actors = [register(step) for step in record.Step]


def enqueue_pipelines(spans: Sequence[record.Span]) -> None:
    """Enqueue the pipeline of each span."""
    dramatiq.group(
        dramatiq.pipeline(
            actor.message_with_options(args=span, pipe_ignore=True) for actor in actors
        )
        for span in spans
    ).run()


if __name__ == "__main__":
    record.enqueue_messages(enqueue_pipelines)
