"""A database with rows is upgraded: what an earlier version recorded is there afterwards."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tests.support.migrations import upgrade_to
from tracker.status import Reason, Status
from tracker.store.database import Database
from tracker.store.migrate import TRACKER_MIGRATIONS, migrate

BEFORE_CANCELLATION = "0012_retention"

STATE = {"campaign_id": 1, "status": Status.NOT_SENT, "attempt": 0, "reason": Reason.CUSTOM_RULE}

ROWS = {
    "messages": {**STATE, "number": 4},
    "transitions": {**STATE, "number": 4, "previous": Status.QUEUED, "at": 5, "step_id": 6},
    "tallies": {**STATE, "batch": 0, "messages": 1},
}
"""A row of each table whose constraints a migration has changed."""


def insert(table: str, row: dict[str, int]) -> sa.Insert:
    return sa.insert(sa.table(table, *(sa.column(name) for name in row))).values(row)


def test_messages_keep_their_reasons_when_a_reason_is_added(empty_database: Database) -> None:
    upgrade_to(empty_database, TRACKER_MIGRATIONS, BEFORE_CANCELLATION)
    cancelled = {table: row | {"reason": Reason.CANCELLED} for table, row in ROWS.items()}
    for table, row in cancelled.items():
        with pytest.raises(IntegrityError), empty_database.write() as connection:
            connection.execute(insert(table, row))
    with empty_database.write() as connection:
        for table, row in ROWS.items():
            connection.execute(insert(table, row))
    migrate(empty_database, TRACKER_MIGRATIONS)
    with empty_database.read() as connection:
        for table, row in ROWS.items():
            columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in row]
            query = sa.select(sa.table(table, *columns))
            assert connection.execute(query).all() == [tuple(row.values())]
        shown = connection.execute(sa.text("SELECT count(*) FROM messages_by_name")).scalar_one()
    assert shown == 0, "the view is there, and its campaign isn't"
    with empty_database.write() as connection:
        for table, row in cancelled.items():
            key = "batch" if table == "tallies" else "number"
            connection.execute(insert(table, row | {key: 9}))
