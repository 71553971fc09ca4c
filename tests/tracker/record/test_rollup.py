"""The rollup counts each recipient on one local day, however often and whenever it runs."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone
from threading import Thread
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from tests.support.engagement import CLICKED, OPENED, UNSUBSCRIBED, deliver_all, record_events
from tests.support.factory import Plan, find_violations, make_batch, run_concurrently
from tracker.clock import Instant, SystemClock, from_datetime
from tracker.queries.report import make_reports
from tracker.record import rollup
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent
from tracker.record.rollup import (
    read_daily_rollup_time,
    record_daily_rollup,
    recount_day,
    roll_up_engagement,
)
from tracker.status import Channel, Engagement
from tracker.store.database import Database
from tracker.store.schema.catalog import campaigns, runs
from tracker.store.schema.engagement import engagement_days, engagement_tallies

BERLIN = ZoneInfo("Europe/Berlin")


def days(database: Database, kind: Engagement = OPENED) -> dict[str, int]:
    query = sa.select(engagement_days.c.day, engagement_days.c.recipients).where(
        engagement_days.c.kind == kind, engagement_days.c.recipients != 0
    )
    with database.read() as connection:
        return dict(connection.execute(query).all())


def at(text: str, number: int = 1, kind: Engagement = OPENED) -> EngagementEvent:
    """Return an event at a UTC time."""
    return EngagementEvent(
        number, kind, from_datetime(datetime.fromisoformat(text).replace(tzinfo=UTC))
    )


@pytest.fixture
def batch(database: Database) -> Batch:
    made = make_batch(database, Plan(size=10))
    deliver_all(database, made)
    with database.write() as connection:
        connection.execute(sa.update(campaigns).values(tracks_engagement=True))
    return made


@pytest.mark.parametrize(
    ("zone", "moment", "day"),
    [
        ("UTC", "2026-11-24 23:59:59.999999", "2026-11-24"),
        ("UTC", "2026-11-25 00:00", "2026-11-25"),
        # Germany: the night of 23 hours, and the one of 25.
        ("Europe/Berlin", "2026-03-28 22:59", "2026-03-28"),
        ("Europe/Berlin", "2026-03-28 23:00", "2026-03-29"),
        ("Europe/Berlin", "2026-03-29 21:59", "2026-03-29"),
        ("Europe/Berlin", "2026-03-29 22:00", "2026-03-30"),
        ("Europe/Berlin", "2026-10-24 21:59", "2026-10-24"),
        ("Europe/Berlin", "2026-10-24 22:00", "2026-10-25"),
        ("Europe/Berlin", "2026-10-25 22:59", "2026-10-25"),
        ("Europe/Berlin", "2026-10-25 23:00", "2026-10-26"),
        ("America/New_York", "2026-11-01 03:59", "2026-10-31"),
        ("America/New_York", "2026-11-02 04:59", "2026-11-01"),
        ("America/New_York", "2026-11-02 05:00", "2026-11-02"),
        # Chile and others change at midnight, so a day begins at 1 am.
        ("America/Santiago", "2026-09-06 03:59", "2026-09-05"),
        ("America/Santiago", "2026-09-06 04:00", "2026-09-06"),
        ("Asia/Kolkata", "2026-11-24 18:29", "2026-11-24"),
        ("Asia/Kolkata", "2026-11-24 18:30", "2026-11-25"),
        ("Asia/Kathmandu", "2026-11-24 18:14", "2026-11-24"),
        ("Asia/Kathmandu", "2026-11-24 18:15", "2026-11-25"),
    ],
)
def test_an_event_counts_on_its_local_day(
    database: Database, batch: Batch, zone: str, moment: str, day: str
) -> None:
    record_events(database, batch, [at(moment)])
    roll_up_engagement(database, ZoneInfo(zone))
    assert days(database) == {day: 1}
    recount_day(database, date.fromisoformat(day), ZoneInfo(zone))
    assert days(database) == {day: 1}
    assert not find_violations(database, batch.campaign)


def test_the_report_is_as_of_the_last_rollup(database: Database, batch: Batch) -> None:
    def opened() -> tuple[int, int]:
        with database.read() as connection:
            [made] = make_reports(connection, [batch.campaign])
        sent = made.as_json()["sent"]
        return sent["opened"], sent["clicked"]

    record_events(database, batch, [at("2026-11-24 12:00"), at("2026-11-24 13:00", 2, CLICKED)])
    assert opened() == (0, 0)
    [done] = roll_up_engagement(database, UTC)
    assert done.changes == Counter({OPENED: 2, CLICKED: 1})
    assert opened() == (2, 1)
    record_events(database, batch, [at("2026-11-24 12:30"), at("2026-11-24 14:00", 3)])
    record_events(database, batch, [at("2026-11-24 15:00", 4, Engagement.MACHINE_OPENED)])
    assert opened() == (2, 1)
    roll_up_engagement(database, UTC)
    assert opened() == (3, 1)


def test_twice_changes_nothing_and_late_events_go_to_their_own_day(
    database: Database, batch: Batch
) -> None:
    record_events(database, batch, [at("2026-11-24 12:00"), at("2026-11-25 12:00", 2)])
    roll_up_engagement(database, UTC)
    roll_up_engagement(database, UTC)
    assert days(database) == {"2026-11-24": 1, "2026-11-25": 1}
    record_events(database, batch, [at("2026-11-23 12:00", 3), at("2026-11-24 12:00", 2)])
    roll_up_engagement(database, UTC)
    assert days(database) == {"2026-11-23": 1, "2026-11-24": 2}
    assert not find_violations(database, batch.campaign)


def test_a_rollup_that_fails_half_way_leaves_nothing_behind(
    database: Database, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_events(database, batch, [at("2026-11-24 12:00")])

    def fail(*_: object) -> None:
        raise RuntimeError("the power is gone")

    with monkeypatch.context() as patched:
        patched.setattr(rollup, "_record_rollup_time", fail)
        with pytest.raises(RuntimeError, match="power"):
            roll_up_engagement(database, UTC)
    assert days(database) == {}
    assert not find_violations(database, batch.campaign)
    roll_up_engagement(database, UTC)
    assert days(database) == {"2026-11-24": 1}


def test_at_once_and_while_events_come_in(database: Database, batch: Batch) -> None:
    def come_in() -> None:
        for number in range(10):
            record_events(database, batch, [at(f"2026-11-24 12:0{number}", number, UNSUBSCRIBED)])

    def roll() -> None:
        for _ in range(5):
            roll_up_engagement(database, UTC)

    run_concurrently(come_in, roll, roll)
    roll_up_engagement(database, UTC)
    assert days(database) == days(database, UNSUBSCRIBED) == {"2026-11-24": 10}
    assert not find_violations(database, batch.campaign)


def test_what_comes_in_while_it_is_rolled_up_is_counted_next_time(
    database: Database, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_events(database, batch, [at("2026-11-24 12:00", 1)])
    late = Thread(target=record_events, args=(database, batch, [at("2026-11-24 12:00", 2)]))
    add = rollup._read_new_counts

    def slowly(*arguments: Any) -> Any:
        counts = add(*arguments)
        late.start()
        late.join(0.3)  # it blocks until the rollup commits
        return counts

    with monkeypatch.context() as patched:
        patched.setattr(rollup, "_read_new_counts", slowly)
        roll_up_engagement(database, UTC)
    late.join()
    roll_up_engagement(database, UTC)
    assert days(database) == {"2026-11-24": 2}
    assert not find_violations(database, batch.campaign)


def end_run(database: Database, column: str = "finished_at", **columns: float) -> None:
    with database.write() as connection:
        connection.execute(sa.update(runs).values({column: 1, **columns}))


def read_as_of(database: Database, batch: Batch) -> Instant | None:
    with database.read() as connection:
        [made] = make_reports(connection, [batch.campaign])
    return made.engagement_as_of


@pytest.mark.parametrize("column", ["finished_at", "given_up_at"])
def test_a_campaign_that_is_over_has_the_time_of_the_rollup_that_saw_it(
    database: Database, batch: Batch, column: str
) -> None:
    record_events(database, batch, [at("2026-11-24 12:00")])
    [first] = roll_up_engagement(database, UTC)
    [second] = roll_up_engagement(database, UTC)
    assert second.as_of > first.as_of
    assert not second.changes
    end_run(database, column)
    assert roll_up_engagement(database, UTC) == [], "nothing changed"
    seen_at = read_as_of(database, batch)
    assert seen_at is not None
    assert second.as_of < seen_at <= SystemClock().now()
    record_events(database, batch, [at("2026-11-24 12:00", 2)])
    [third] = roll_up_engagement(database, UTC)
    assert third.as_of > seen_at


def test_the_time_of_a_fast_clock_never_goes_back(database: Database, batch: Batch) -> None:
    with database.write() as connection:
        connection.execute(sa.update(runs).values(speed=100_000))
    [done] = roll_up_engagement(database, UTC)
    end_run(database)
    roll_up_engagement(database, UTC)
    assert read_as_of(database, batch) == done.as_of


def test_a_campaign_without_engagement_has_the_time_of_the_rollup_too(database: Database) -> None:
    batches = [make_batch(database, Plan(channel=channel)) for channel in Channel]
    roll_up_engagement(database, UTC)
    email, sms = (read_as_of(database, batch) for batch in batches)
    assert email is not None
    assert sms is None


def test_a_run_rolls_up_its_own_campaigns_only(database: Database, batch: Batch) -> None:
    other = make_batch(database)
    deliver_all(database, other)
    for recorded in (batch, other):
        record_events(database, recorded, [at("2026-11-24 12:00")])
    [done] = roll_up_engagement(database, UTC, [other.campaign.id])
    assert done.campaign == other.campaign
    assert read_as_of(database, batch) is None
    assert days(database) == {"2026-11-24": 1}
    [own, *_] = roll_up_engagement(database, UTC)
    assert own.changes == Counter({OPENED: 1})
    assert not find_violations(database, batch.campaign, other.campaign)


def test_the_daily_rollup_has_its_own_time(database: Database, batch: Batch) -> None:
    def read_time() -> Instant | None:
        with database.read() as connection:
            return read_daily_rollup_time(connection)

    roll_up_engagement(database, UTC)
    assert read_time() is None, "a person's rollup says nothing of beat"
    before = SystemClock().now()
    record_daily_rollup(database)
    first = read_time()
    record_daily_rollup(database)
    second = read_time()
    assert first is not None
    assert second is not None
    assert before <= first < second


def test_a_clock_beyond_all_dates_is_no_error(database: Database, batch: Batch) -> None:
    """The fast clock of a run that was given up long ago may be past the year 9999."""
    with database.write() as connection:
        connection.execute(sa.update(runs).values(started_at=0, speed=100_000))
    [done] = roll_up_engagement(database, UTC)
    with database.read() as connection:
        [made] = make_reports(connection, [batch.campaign])
    assert made.engagement_as_of == done.as_of
    assert made.as_json()["sent"]["engagement_as_of"].startswith("9999-12-31")


def test_events_beyond_all_dates_count_on_the_nearest_one(database: Database, batch: Batch) -> None:
    """The zero time of a language, the end of time, and nanoseconds instead of microseconds."""
    instants = [
        from_datetime(datetime(1, 1, 1, tzinfo=UTC)),
        from_datetime(datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-14)))),
        1000 * from_datetime(datetime(2026, 11, 24, tzinfo=UTC)),
    ]
    events = [EngagementEvent(number, OPENED, instant) for number, instant in enumerate(instants)]
    record_events(database, batch, [*events, at("2026-11-24 12:00", 5)])
    zone = ZoneInfo("America/New_York")
    for _ in range(2):
        roll_up_engagement(database, zone)
        assert days(database) == {"0001-01-01": 1, "2026-11-24": 1, "9999-12-30": 2}
        recount_day(database, date(2026, 11, 24), zone)
    assert not find_violations(database, batch.campaign)


def test_a_changed_time_zone_keeps_the_sum_and_a_recount_sets_the_days_right(
    database: Database, batch: Batch
) -> None:
    record_events(database, batch, [at("2026-11-24 23:30"), at("2026-11-25 12:00", 2)])
    roll_up_engagement(database, UTC)
    record_events(database, batch, [at("2026-11-24 23:45", 3)])
    roll_up_engagement(database, BERLIN)
    assert days(database) == {"2026-11-24": 1, "2026-11-25": 2}
    assert not find_violations(database, batch.campaign)
    recount_day(database, date(2026, 11, 25), BERLIN)
    assert days(database) == {"2026-11-25": 3}
    assert not find_violations(database, batch.campaign)


def test_taking_from_a_day_that_another_zone_counted_adds_all_up_anew(
    database: Database, batch: Batch
) -> None:
    record_events(database, batch, [at("2026-11-24 23:30")])
    roll_up_engagement(database, UTC)
    record_events(database, batch, [at("2026-11-24 12:00")])
    roll_up_engagement(database, BERLIN)
    assert days(database) == {"2026-11-24": 1}
    assert not find_violations(database, batch.campaign)


def test_a_recount_corrects_tallies_and_days_from_the_events(
    database: Database, batch: Batch
) -> None:
    record_events(database, batch, [at("2026-11-24 12:00"), at("2026-11-24 18:00", 2)])
    roll_up_engagement(database, UTC)
    with database.write() as connection:
        connection.execute(sa.update(engagement_tallies).values(recipients=7))
        connection.execute(sa.update(engagement_days).values(recipients=9))
    assert find_violations(database, batch.campaign) == ["engagement_tallies", "engagement_days"]
    assert recount_day(database, date(2026, 11, 23), UTC) == []
    [done] = recount_day(database, date(2026, 11, 24), UTC)
    assert done.changes == Counter({OPENED: -7})
    assert days(database) == {"2026-11-24": 2}
    assert not find_violations(database, batch.campaign)
