"""The rollup of new events beside one GROUP BY over them, with few and with many old ones."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, timedelta
from statistics import median

import sqlalchemy as sa
from sqlalchemy import Connection

from benchmarks.reports import CAMPAIGN_ID
from simulator.schema import open_database
from tests.support.factory import AUTHOR, Plan, make_batch
from tracker.clock import to_microseconds
from tracker.record.engagement import QUARTER_MICROSECONDS, EngagementEvent, record_engagement
from tracker.record.journal import open_entry
from tracker.record.rollup import roll_up_engagement
from tracker.settings import load_settings
from tracker.status import Engagement, Step
from tracker.store.database import Database
from tracker.store.schema.engagement import engagement_tallies, engagements

TIMING_COUNT = 3
"""Timings of each side, after one that warms up."""

BATCH_SIZE = 10_000
"""Messages of a batch; half of them are opened, each once."""

DAY_MICROSECONDS = to_microseconds(timedelta(days=1))

FIRST_DAY_START = 1_795_478_400_000_000
"""2026-11-24 00:00 UTC."""

EVENTS_PER_ENTRY = 100
"""Events at a time that are recorded as workers do it."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Median seconds of a rollup and of the query, over ``new`` events beside ``old`` ones;
    ``recorded`` is how many events a second a batch takes in."""

    new: int
    old: int
    rollup: float
    group_by: float
    recorded: float


def time_rollup(url: str, new: int, old: int) -> Timed:
    """Time both sides in turn. The new events are those of one day, the old of the days before."""
    with closing(open_database(load_settings(database_url=url))) as database:
        recorded = _time_recording(database)
        with database.write() as connection:
            for day in range(-(old // new), 1):
                _insert_opens(database, connection, day, new)
        roll_up_engagement(database, UTC)
        database.analyze()
        rollup, group_by = list[float](), list[float]()
        for _ in range(1 + TIMING_COUNT):
            with database.write() as connection:
                today = engagement_tallies.c.quarter >= FIRST_DAY_START // QUARTER_MICROSECONDS
                connection.execute(sa.update(engagement_tallies).where(today).values(rolled=0))
            rollup.append(_time_call(lambda: roll_up_engagement(database, UTC)))
            group_by.append(_time_group_by(database, new))
    return Timed(
        new=new,
        old=old,
        rollup=median(rollup[1:]),
        group_by=median(group_by[1:]),
        recorded=recorded,
    )


def _time_recording(database: Database) -> float:
    batch = make_batch(database, Plan(size=BATCH_SIZE))
    opened = Engagement.OPENED
    events = [
        EngagementEvent(number, opened, FIRST_DAY_START + number * QUARTER_MICROSECONDS // 100)
        for number in range(BATCH_SIZE)
    ]
    began = time.perf_counter()
    for first in range(0, BATCH_SIZE, EVENTS_PER_ENTRY):
        with open_entry(database, batch, Step.ENGAGE, AUTHOR, started_at=0) as written:
            record_engagement(written, events[first : first + EVENTS_PER_ENTRY])
    seconds = time.perf_counter() - began
    with database.write() as connection:
        connection.execute(sa.delete(engagements))
        connection.execute(sa.delete(engagement_tallies))
    return BATCH_SIZE / seconds


def _insert_opens(database: Database, connection: Connection, day: int, events: int) -> None:
    """Have every second message of a campaign of its own opened in the course of a day."""
    campaign = CAMPAIGN_ID - day
    series = (
        f"SELECT generate_series AS n FROM generate_series(0, {events - 1})"  # noqa: S608
        if database.is_postgresql
        else f"WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s LIMIT {events})"  # noqa: S608
        " SELECT n FROM s"
    )
    begin = FIRST_DAY_START + day * DAY_MICROSECONDS
    connection.execute(
        sa.text(
            "INSERT INTO engagements (campaign_id, kind, number, at)"  # noqa: S608
            f" SELECT {campaign}, {Engagement.OPENED:d}, n * 2,"
            f" CAST({begin} AS BIGINT) + (CAST(n AS BIGINT) * 7919 * 1000003) % {DAY_MICROSECONDS}"
            f" FROM ({series}) AS numbers"
        )
    )
    connection.execute(
        sa.text(
            "INSERT INTO engagement_tallies (campaign_id, batch, kind, quarter, recipients)"  # noqa: S608
            f" SELECT campaign_id, number / {BATCH_SIZE}, kind, at / {QUARTER_MICROSECONDS}, count(*)"
            f" FROM engagements WHERE campaign_id = {campaign}"
            f" GROUP BY campaign_id, number / {BATCH_SIZE}, kind, at / {QUARTER_MICROSECONDS}"
        )
    )


def _time_group_by(database: Database, new: int) -> float:
    day = (engagements.c.at // DAY_MICROSECONDS).label("day")
    query = (
        sa.select(engagements.c.kind, day, sa.func.count())
        .where(engagements.c.campaign_id == CAMPAIGN_ID)
        .group_by(engagements.c.kind, day)
    )

    def ask() -> None:
        counted = sum(row[2] for row in connection.execute(query))
        assert counted == new, "the new events are counted"

    with database.read_only_analytics() as connection:
        return _time_call(ask)


def _time_call(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
