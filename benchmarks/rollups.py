"""The rollup of new events, beside one `GROUP BY` over them, with few and with many old events."""

from datetime import UTC, timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy import Connection

from benchmarks.context import CAMPAIGN_ID, DatabaseBenchmark
from benchmarks.databases import (
    AUTHOR,
    DELIVERED,
    IN_GATEWAY,
    READY,
    open_tables,
    record_batch,
    record_scenario,
)
from benchmarks.meter import Cost, time_in_turns
from benchmarks.results import Measure
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from simulator.schema import analyze_all_tables
from tracker.clock import to_microseconds
from tracker.record.catalog import Campaign
from tracker.record.engagement import QUARTER_MICROSECONDS, EngagementEvent, record_engagement
from tracker.record.journal import open_entry
from tracker.record.rollup import roll_up_engagement
from tracker.status import Engagement, Step
from tracker.store.database import Database
from tracker.store.schema.engagement import engagement_tallies, engagements

GROUP_BY_TO_ROLLUP = Measure("GROUP BY ÷ rollup", "≥", 0.5)

TURNS = 3

DAY_MICROSECONDS = to_microseconds(timedelta(days=1))

LAST_DAY_START = 1_795_478_400_000_000
"""2026-11-24 00:00 UTC, in microseconds. The new events are of this day, the old of days before."""

EVENTS_PER_ENTRY = 100
"""Events that are recorded at a time, as workers do it."""

SCENARIO = f"""\
name = "rollups"

[[campaigns]]
name = "rollups"
channel = "email"
audience = {DEFAULT_BATCH_SIZE}
"""


def measure_rollups(bench: DatabaseBenchmark) -> None:
    """Measure recording and rollup of events; the old events are added to one database."""
    with bench.create_database() as url, open_tables(url) as database:
        [campaign] = record_scenario(database, bench.folder, SCENARIO)
        cost = _measure_recording(bench, database, campaign)
        bench.add_throughput("events recorded", DEFAULT_BATCH_SIZE, [cost])
        days = 0
        for new, old in bench.sizes.rollups:
            with database.write() as connection:
                for day in range(days, 1 + old // new):
                    _insert_opens(connection, day, new)
            days = 1 + old // new
            roll_up_engagement(database, UTC)
            analyze_all_tables(database)
            rollup, group_by = time_in_turns(
                partial(roll_up_engagement, database, UTC),
                partial(_count_new_events, database, new),
                TURNS,
                prepare=partial(_forget_last_rollup, database),
            )
            bench.add_line(
                GROUP_BY_TO_ROLLUP.compare_seconds(
                    rollup, group_by, detail=f"{new:,} new of {new + old:,}"
                )
            )


def _measure_recording(bench: DatabaseBenchmark, database: Database, campaign: Campaign) -> Cost:
    """Return the cost of recording an event of each message of a batch, and remove the events."""
    batch = record_batch(
        database, campaign, range(DEFAULT_BATCH_SIZE), (READY, IN_GATEWAY, DELIVERED)
    )
    events = [
        EngagementEvent(
            number, Engagement.OPENED, LAST_DAY_START + number * QUARTER_MICROSECONDS // 100
        )
        for number in range(batch.size)
    ]

    costs: list[Cost] = []
    with bench.measure("events recorded", costs):
        for first in range(0, batch.size, EVENTS_PER_ENTRY):
            with open_entry(database, batch, Step.ENGAGE, AUTHOR, started_at=0) as written:
                record_engagement(written, events[first : first + EVENTS_PER_ENTRY])
    with database.write() as connection:
        connection.execute(sa.delete(engagements))
        connection.execute(sa.delete(engagement_tallies))
    return costs[0]


def _insert_opens(connection: Connection, day: int, events: int) -> None:
    """Have every second message of a campaign of its own opened, `day` days before the last day."""
    campaign = CAMPAIGN_ID + day
    start = LAST_DAY_START - day * DAY_MICROSECONDS
    connection.execute(
        sa.text(
            "INSERT INTO engagements (campaign_id, kind, number, at)"  # noqa: S608
            " WITH RECURSIVE series(n) AS"
            f" (SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n + 1 < {events})"
            f" SELECT {campaign}, {Engagement.OPENED:d}, n * 2,"
            f" CAST({start} AS BIGINT) + (CAST(n AS BIGINT) * 7919 * 1000003) % {DAY_MICROSECONDS}"
            " FROM series"
        )
    )
    keys = f"campaign_id, number / {DEFAULT_BATCH_SIZE}, kind, at / {QUARTER_MICROSECONDS}"
    connection.execute(
        sa.text(
            "INSERT INTO engagement_tallies (campaign_id, batch, kind, quarter, recipients)"  # noqa: S608
            f" SELECT {keys}, count(*) FROM engagements WHERE campaign_id = {campaign}"
            f" GROUP BY {keys}"
        )
    )


def _forget_last_rollup(database: Database) -> None:
    """Make the events of the last day new again."""
    is_last_day = engagement_tallies.c.quarter >= LAST_DAY_START // QUARTER_MICROSECONDS
    with database.write() as connection:
        connection.execute(sa.update(engagement_tallies).where(is_last_day).values(rolled=0))


def _count_new_events(database: Database, new: int) -> None:
    day = (engagements.c.at // DAY_MICROSECONDS).label("day")
    query = (
        sa.select(engagements.c.kind, day, sa.func.count())
        .where(engagements.c.campaign_id == CAMPAIGN_ID)
        .group_by(engagements.c.kind, day)
    )
    with database.read_only_analytics() as connection:
        counted = sum(row[2] for row in connection.execute(query))
    assert counted == new, f"got {counted} new events; expected {new}"
