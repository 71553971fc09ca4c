"""When messages entered their present state: a later transition never gets an earlier time."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.status import Status
from tracker.store.schema.messages import transitions


def read_latest_arrival(
    connection: Connection, campaign_id: int, status: Status, attempt: int, numbers: Sequence[int]
) -> Instant:
    """Return when the last message between the least and greatest number entered a state."""
    latest: Instant | None = connection.scalar(
        sa.select(sa.func.max(transitions.c.at)).where(
            transitions.c.campaign_id == campaign_id,
            transitions.c.status == status,
            transitions.c.attempt == attempt,
            transitions.c.number.between(min(numbers), max(numbers)),
        )
    )
    return latest or 0


def not_before_arrival(
    campaign_id: int, status: Status, attempt: int, rows: sa.FromClause
) -> sa.ColumnElement[int]:
    """Return the expression for each row's `at`, or its later arrival in a state."""
    arrivals = transitions.alias("arrivals")
    arrived_at = (
        sa.select(arrivals.c.at)
        .where(
            arrivals.c.campaign_id == campaign_id,
            arrivals.c.status == status,
            arrivals.c.attempt == attempt,
            arrivals.c.number == rows.c.number,
        )
        .scalar_subquery()
    )
    return sa.case((rows.c.at < arrived_at, arrived_at), else_=rows.c.at)
