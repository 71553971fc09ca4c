"""Counters of what happened. They never fall: they outlive the campaigns whose work they count."""

from bisect import bisect_left
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import from_seconds
from tracker.status import Reason, Status
from tracker.store.database import Database
from tracker.store.schema.work import counters

SHARDS = 16
"""Rows of a counter. Steps on different batches mostly add to different rows, so their
transactions seldom wait for each other."""

BUCKET_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of a histogram's buckets, without the last one, which has none."""


class CounterName(StrEnum):
    """What a counter counts; its labels are separated by spaces."""

    TRANSITIONS = "transitions"  # messages, by status and reason
    STEP_SECONDS = "step_seconds"  # steps, by step and bucket
    WAIT_SECONDS = "wait_seconds"  # tasks, by step and bucket
    GATEWAY_CALLS = "gateway_calls"  # by the gateway's kind and method
    GATEWAY_REFUSALS = "gateway_refusals"  # messages, by the gateway's kind
    GATEWAY_UNAVAILABLE = "gateway_unavailable"  # steps, by the gateway's kind
    REFUSED_RECEIPTS = "refused_receipts"  # by verdict
    FAILED_STEPS = "failed_steps"  # by step


class CounterValue(NamedTuple):
    """Events, and the microseconds that they took where a counter has times."""

    events: int = 0
    microseconds: int = 0


def state_labels(status: Status, reason: Reason | None) -> str:
    """Return the labels of the counter of messages that entered a status for a reason, if any."""
    return status.slug if reason is None else f"{status.slug} {reason.slug}"


CounterValues = dict[tuple[str, str], CounterValue]
"""Values by the counter's name and labels."""


class Counters:
    """Additions to counters that aren't on record yet."""

    def __init__(self) -> None:
        self._added: CounterValues = {}

    def __bool__(self) -> bool:
        return bool(self._added)

    def add(self, name: CounterName, labels: str, events: int = 1, microseconds: int = 0) -> None:
        """Add to a counter."""
        if events:
            before = self._added.get((name, labels), CounterValue())
            self._added[name, labels] = CounterValue(
                before.events + events, before.microseconds + microseconds
            )

    def add_transitions(self, status: Status, reason: Reason | None, messages: int) -> None:
        """Count messages that have entered a status, for a reason if it is Not Sent."""
        self.add(CounterName.TRANSITIONS, state_labels(status, reason), messages)

    def observe(self, name: CounterName, label: str, seconds: float) -> None:
        """Add a duration to a histogram."""
        seconds = max(0.0, seconds)
        bucket = bisect_left(BUCKET_SECONDS, seconds)
        self.add(name, f"{label} {bucket}", microseconds=from_seconds(seconds))

    def include(self, other: "Counters") -> None:
        """Add what others have added."""
        for (name, labels), value in other._added.items():
            self.add(CounterName(name), labels, *value)

    def clear(self) -> None:
        """Forget all additions, as they are on record."""
        self._added.clear()

    def write(self, database: Database, connection: Connection, shard: int) -> None:
        """Record the additions. Nothing may be locked after this in the same transaction.

        Rows are locked in the order of their keys, and last. So a transaction that has locked one
        waits only for those that are about to commit.
        """
        rows = [
            {"name": name, "labels": labels, "shard": shard % SHARDS, **value._asdict()}
            for (name, labels), value in sorted(self._added.items())
        ]
        database.add_to_rows(connection, counters, rows, "events", "microseconds")


def record_counters(database: Database, additions: Counters) -> None:
    """Record additions in a transaction of their own, and clear them."""
    with database.write() as connection:
        additions.write(database, connection, shard=0)
    additions.clear()


def read_counters(connection: Connection) -> Mapping[str, Mapping[str, CounterValue]]:
    """Return the value of each counter by its name and labels."""
    values: dict[str, dict[str, CounterValue]] = {name: {} for name in CounterName}
    query = sa.select(
        counters.c.name,
        counters.c.labels,
        sa.func.sum(counters.c.events),
        sa.func.sum(counters.c.microseconds),
    ).group_by(counters.c.name, counters.c.labels)
    for name, labels, events, microseconds in connection.execute(query):
        values[name][labels] = CounterValue(int(events), int(microseconds))
    return values
