"""The record that each peer keeps, and one statement for each step.

Every peer runs these statements, so they differ in nothing but the task queue. A peer's module, run
as a program, records messages and enqueues their tasks: `enqueue MESSAGES BATCH_SIZE`.
"""

import os
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import LiteralString

import psycopg

from benchmarks.batches import split_range
from tracker.status import Status

DATABASE_VARIABLE = "PEER_DATABASE_URL"
BROKER_VARIABLE = "PEER_BROKER_URL"
"""Environment variables with the addresses that a peer's processes use."""

CHUNK_SIZE = 10_000
"""Messages that are recorded in one transaction before their tasks are enqueued."""

STATUSES = (Status.QUEUED, Status.ABOUT_TO_BE_SENT, Status.IN_GATEWAY, Status.DELIVERED)
"""Statuses of a message that is delivered at the first attempt."""

Span = tuple[int, int]
"""The first and the last number of the messages of a task."""


class Step(StrEnum):
    """The steps of a message, in their order."""

    CHECK = "check"
    DISPATCH = "dispatch"
    SUBMIT = "submit"
    DELIVER = "deliver"


# Like sendtrace's own tables: free space on each page for updates, and the key in this order.
SCHEMA: LiteralString = """
CREATE TABLE customers (number int PRIMARY KEY, email text, unsubscribed boolean NOT NULL);
CREATE TABLE messages (number int PRIMARY KEY, status smallint NOT NULL) WITH (fillfactor = 40);
CREATE TABLE transitions (
    status smallint,
    number int,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (status, number)
);
"""

_INSERT_CUSTOMERS: LiteralString = """
INSERT INTO customers
SELECT number, 'customer-' || number || '@example.com', false
FROM generate_series(0, %(messages)s::int - 1) AS number
"""

_QUEUE: LiteralString = """
WITH queued AS (
    INSERT INTO messages (number, status)
    SELECT number, %(status)s FROM generate_series(%(first)s::int, %(last)s::int) AS number
    RETURNING status, number
)
INSERT INTO transitions (status, number) SELECT status, number FROM queued
"""

_MOVE: LiteralString = """
WITH moved AS (
    UPDATE messages SET status = %(status)s
    WHERE number BETWEEN %(first)s AND %(last)s AND status = %(previous)s
    RETURNING status, number
)
INSERT INTO transitions (status, number) SELECT status, number FROM moved
"""

_BLOCK: LiteralString = """
WITH moved AS (
    UPDATE messages SET status = %(status)s
    FROM customers
    WHERE customers.number BETWEEN %(first)s AND %(last)s
        AND (customers.email IS NULL OR customers.unsubscribed)
        AND messages.number = customers.number AND messages.status = %(previous)s
    RETURNING messages.status, messages.number
)
INSERT INTO transitions (status, number) SELECT status, number FROM moved
"""

_STATEMENTS: dict[Step, tuple[LiteralString, Status, Status]] = {
    Step.CHECK: (_BLOCK, Status.QUEUED, Status.NOT_SENT),
    Step.DISPATCH: (_MOVE, Status.QUEUED, Status.ABOUT_TO_BE_SENT),
    Step.SUBMIT: (_MOVE, Status.ABOUT_TO_BE_SENT, Status.IN_GATEWAY),
    Step.DELIVER: (_MOVE, Status.IN_GATEWAY, Status.DELIVERED),
}


def step_statement(step: Step, first: int, last: int) -> tuple[LiteralString, dict[str, int]]:
    """Return the statement of a step for the messages of a task, with its parameters."""
    statement, previous, status = _STATEMENTS[step]
    return statement, {"first": first, "last": last, "previous": previous, "status": status}


def create_tables(url: str, messages: int) -> None:
    """Create the tables of a peer in an empty database, and its customers."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute(_INSERT_CUSTOMERS, {"messages": messages})
        connection.execute("VACUUM ANALYZE customers")


def enqueue_messages(enqueue_tasks: Callable[[Sequence[Span]], object]) -> None:
    """Record the messages of the command line as queued and enqueue their tasks, chunk by chunk."""
    messages, batch_size = map(int, sys.argv[2:])
    with psycopg.connect(os.environ[DATABASE_VARIABLE], autocommit=True) as connection:
        for chunk in split_range(range(messages), CHUNK_SIZE):
            parameters = {"first": chunk[0], "last": chunk[-1], "status": Status.QUEUED}
            connection.execute(_QUEUE, parameters)
            enqueue_tasks([(task[0], task[-1]) for task in split_range(chunk, batch_size)])
