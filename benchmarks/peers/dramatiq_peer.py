"""Dramatiq with Redis: a pipeline of four actors, for one message or for a batch.

As Dramatiq's guide advises: pipelines and groups to compose actors, short messages, the command's
own number of processes and threads, and actors that may run twice. Threads share a pool of
connections.
Enqueue messages with `python -m benchmarks.peers.dramatiq_peer enqueue MESSAGES BATCH_SIZE`.
"""

import os
import sys
from collections.abc import Sequence
from functools import cache

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from psycopg_pool import ConnectionPool

from benchmarks.peers.record import (
    BROKER_VARIABLE,
    DATABASE_VARIABLE,
    Span,
    Step,
    enqueue_messages,
    step_statement,
)

THREADS = 8
"""Threads of a worker process, Dramatiq's default: each needs a connection at times."""

SOCKET_URL = os.environ[BROKER_VARIABLE].replace("redis+socket://", "unix://")
"""The address of the broker, as redis-py writes it."""

broker = RedisBroker(url=SOCKET_URL)
dramatiq.set_broker(broker)


@cache
def open_pool() -> ConnectionPool:
    """Return the pool of this process; it is opened by the first actor, after the fork."""
    return ConnectionPool(
        os.environ[DATABASE_VARIABLE],
        min_size=THREADS,
        max_size=THREADS,
        kwargs={"autocommit": True},
        open=True,
    )


def register(step: Step) -> dramatiq.Actor[[int, int], None]:
    """Register the actor of a step."""

    def run(first: int, last: int) -> None:
        with open_pool().connection() as connection:
            connection.execute(*step_statement(step, first, last))

    return dramatiq.actor(run, actor_name=step.value)


actors = [register(step) for step in Step]


def enqueue_pipelines(spans: Sequence[Span]) -> None:
    """Enqueue the pipeline of each span."""
    dramatiq.group(
        dramatiq.pipeline(
            actor.message_with_options(args=span, pipe_ignore=True) for actor in actors
        )
        for span in spans
    ).run()


if __name__ == "__main__":
    enqueue_messages(int(sys.argv[2]), int(sys.argv[3]), enqueue_pipelines)
