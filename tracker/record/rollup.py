"""The rollup: recipients by the local day of their first event of each kind.

It adds what the tallies of `tracker.record.engagement` have gained since the last rollup, so its
cost grows with what is new. A quarter of an hour belongs to the local day that it begins on, also
on days of 23 or 25 hours.

After a change of the time zone, new events count by the new zone. Days that were counted before
stay as they are: their sum is right. `recount_day` counts all days of some campaigns by the new
zone.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, SystemClock, from_datetime, to_datetime
from tracker.record.catalog import Campaign, load_campaigns
from tracker.record.engagement import QUARTER_MICROSECONDS, event_tallies_query
from tracker.status import Channel, Engagement
from tracker.store.additions import Row
from tracker.store.database import Database
from tracker.store.schema.catalog import campaigns, runs
from tracker.store.schema.engagement import engagement_days, engagement_tallies, engagements
from tracker.store.schema.work import upkeep

EARLIEST_INSTANT = from_datetime(datetime(1, 1, 2, tzinfo=UTC))
LATEST_INSTANT = from_datetime(datetime(9999, 12, 31, tzinfo=UTC))
"""Earliest and latest instant that are dates in every time zone. The fast clock of a run that was
given up long ago may pass the latest, and a gateway may report an event beyond both."""

DAILY_ROLLUP_TASK = "rollup"
"""Name of the daily rollup in the table `upkeep`."""

DayCounts = Counter[tuple[int, str, int]]
"""Recipients by campaign id, local day and kind."""

_IS_NEW = engagement_tallies.c.recipients != engagement_tallies.c.rolled


@dataclass(frozen=True, kw_only=True)
class CampaignRollup:
    """The changes of a rollup to a campaign.

    Attributes:
        changes: recipients by kind, more (or fewer) than before.
        as_of: the campaign's time of the rollup.
    """

    campaign: Campaign
    changes: Counter[Engagement]
    as_of: Instant


def roll_up_engagement(
    database: Database, zone: tzinfo, campaign_ids: Collection[int] | None = None
) -> list[CampaignRollup]:
    """Bring the days up to date with the recorded events, in one transaction.

    It may be repeated, run twice at once, or fail half-way.

    Args:
        campaign_ids: the campaigns to roll up; None for all.

    Returns:
        The changes to the campaigns that changed or may yet change.
    """
    with database.write() as connection:
        database.lock_table(connection, engagement_tallies)
        is_new = sa.and_(_IS_NEW, _is_among(engagement_tallies.c.campaign_id, campaign_ids))
        changes = _read_new_counts(connection, is_new, zone)
        connection.execute(
            sa.update(engagement_tallies)
            .where(is_new)
            .values(rolled=engagement_tallies.c.recipients)
        )
        inconsistent = _add_to_days(database, connection, changes)
        if inconsistent:
            _rebuild_days(connection, sorted(inconsistent), zone)
        is_seen = _is_among(campaigns.c.id, campaign_ids)
        return _record_rollup_time(connection, _sum_by_kind(changes), is_seen)


def record_daily_rollup(database: Database) -> None:
    """Record that beat's daily rollup of all campaigns has just run."""
    with database.write() as connection:
        connection.execute(
            database.insert_or_replace(upkeep, "ran_at").values(
                task=DAILY_ROLLUP_TASK, ran_at=SystemClock().now()
            )
        )


def read_daily_rollup_time(connection: Connection) -> Instant | None:
    """Return the real time of beat's last daily rollup, None if it never ran."""
    ran_at: Instant | None = connection.scalar(
        sa.select(upkeep.c.ran_at).where(upkeep.c.task == DAILY_ROLLUP_TASK)
    )
    return ran_at


def _is_among(
    column: sa.ColumnElement[int], campaign_ids: Collection[int] | None
) -> sa.ColumnElement[bool]:
    return sa.true() if campaign_ids is None else column.in_(campaign_ids)


def recount_day(database: Database, day: date, zone: tzinfo) -> list[CampaignRollup]:
    """Count a local day from the events, then all days of its campaigns from the tallies.

    Campaigns with neither events nor counts on that day stay as they are.
    """
    quarters = _quarters_of_day(day, zone)
    with database.read() as connection:
        # This reads all events, so it is done before the write transaction, which others wait for.
        affected = _find_affected_campaigns(connection, day, quarters)
    with database.write() as connection:
        database.lock_table(connection, engagement_tallies)
        totals_before = _read_totals(connection, affected)
        _replace_tallies(connection, affected, quarters)
        _rebuild_days(connection, affected, zone)
        changes = _read_totals(connection, affected)
        for campaign_id, counts in changes.items():
            counts.subtract(totals_before[campaign_id])
        return _record_rollup_time(connection, changes, campaigns.c.id.in_(affected))


def _read_new_counts(
    connection: Connection, is_new: sa.ColumnElement[bool], zone: tzinfo
) -> DayCounts:
    """Return what the tallies have gained since the last rollup."""
    gain = sa.func.sum(engagement_tallies.c.recipients - engagement_tallies.c.rolled)
    return _read_counts_by_day(connection, _quarter_counts_query(gain).where(is_new), zone)


def _quarter_counts_query(count: sa.ColumnElement[int]) -> sa.Select[Any]:
    key = [engagement_tallies.c[name] for name in ("campaign_id", "kind", "quarter")]
    return sa.select(*key, count).group_by(*key)


def _read_counts_by_day(connection: Connection, query: sa.Select[Any], zone: tzinfo) -> DayCounts:
    """Return the rows of a `_quarter_counts_query`, added up to local days."""
    day_by_quarter: dict[int, str] = {}
    counts: DayCounts = Counter()
    for campaign_id, kind, quarter, recipients in connection.execute(query):
        if quarter not in day_by_quarter:
            start = to_datetime(
                min(max(quarter * QUARTER_MICROSECONDS, EARLIEST_INSTANT), LATEST_INSTANT)
            )
            day_by_quarter[quarter] = start.astimezone(zone).date().isoformat()
        counts[campaign_id, day_by_quarter[quarter], kind] += int(recipients)
    return counts


def _add_to_days(database: Database, connection: Connection, changes: DayCounts) -> set[int]:
    """Change the days, and return the ids of campaigns for which that isn't possible.

    A day has too few recipients to subtract from if it was counted in another time zone.
    """
    gains: list[Row] = [
        {"campaign_id": campaign_id, "day": day, "kind": kind, "recipients": count}
        for (campaign_id, day, kind), count in changes.items()
        if count > 0
    ]
    database.add_to_rows(connection, engagement_days, gains, "recipients")
    inconsistent = set()
    for (campaign_id, day, kind), count in changes.items():
        if count < 0:
            updated = connection.execute(
                sa.update(engagement_days)
                .where(
                    engagement_days.c.campaign_id == campaign_id,
                    engagement_days.c.day == day,
                    engagement_days.c.kind == kind,
                    engagement_days.c.recipients >= -count,
                )
                .values(recipients=engagement_days.c.recipients + count)
            ).rowcount
            if not updated:
                inconsistent.add(campaign_id)
    return inconsistent


def _rebuild_days(connection: Connection, campaign_ids: Sequence[int], zone: tzinfo) -> None:
    """Count all days of campaigns from their tallies."""
    total = sa.func.sum(engagement_tallies.c.recipients)
    is_affected = engagement_tallies.c.campaign_id.in_(campaign_ids)
    counts = _read_counts_by_day(connection, _quarter_counts_query(total).where(is_affected), zone)
    connection.execute(
        sa.delete(engagement_days).where(engagement_days.c.campaign_id.in_(campaign_ids))
    )
    if counts:
        connection.execute(
            sa.insert(engagement_days),
            [
                {"campaign_id": campaign_id, "day": day, "kind": kind, "recipients": count}
                for (campaign_id, day, kind), count in counts.items()
            ],
        )
    connection.execute(
        sa.update(engagement_tallies)
        .where(is_affected, _IS_NEW)
        .values(rolled=engagement_tallies.c.recipients)
    )


def _replace_tallies(connection: Connection, campaign_ids: Sequence[int], quarters: range) -> None:
    """Count the tallies of some quarters of an hour from the events."""
    first, last = quarters.start, quarters.stop - 1
    connection.execute(
        sa.delete(engagement_tallies).where(
            engagement_tallies.c.campaign_id.in_(campaign_ids),
            engagement_tallies.c.quarter.between(first, last),
        )
    )
    counts = event_tallies_query(engagements.c.campaign_id.in_(campaign_ids)).subquery()
    connection.execute(
        sa.insert(engagement_tallies).from_select(
            ["campaign_id", "batch", "kind", "quarter", "recipients"],
            sa.select(counts).where(counts.c.quarter.between(first, last)),
        )
    )


def _sum_by_kind(changes: DayCounts) -> dict[int, Counter[Engagement]]:
    sums: defaultdict[int, Counter[Engagement]] = defaultdict(Counter)
    for (campaign_id, _, kind), count in changes.items():
        sums[campaign_id][Engagement(kind)] += count
    return sums


def _record_rollup_time(
    connection: Connection,
    changes: Mapping[int, Counter[Engagement]],
    is_seen: sa.ColumnElement[bool],
) -> list[CampaignRollup]:
    """Record the time of a rollup for the email campaigns that it saw and those that changed.

    The time is by the clock of the campaign's run, and real time once the run is over. It never
    goes back, although a fast clock is ahead of real time.
    """
    is_over = sa.or_(runs.c.finished_at.is_not(None), runs.c.given_up_at.is_not(None))
    seen = (
        sa.select(campaigns.c.id)
        .join(runs, runs.c.id == campaigns.c.run_id)
        .where(
            is_seen,
            sa.or_(campaigns.c.channel == Channel.EMAIL, campaigns.c.id.in_(sorted(changes))),
        )
    )
    connection.execute(
        sa.update(campaigns)
        .where(campaigns.c.id.in_(seen.where(is_over)))
        .values(engagement_as_of=_latest_time(SystemClock().now()))
    )
    running = connection.scalars(seen.where(~is_over)).all()
    for campaign in load_campaigns(connection, running):
        connection.execute(
            sa.update(campaigns)
            .where(campaigns.c.id == campaign.id)
            .values(engagement_as_of=_latest_time(min(campaign.clock.now(), LATEST_INSTANT)))
        )
    return _describe_changes(connection, {*running, *changes}, changes)


def _latest_time(now: Instant) -> sa.ColumnElement[int]:
    """Return the expression for the later of `now` and a campaign's recorded time."""
    recorded = campaigns.c.engagement_as_of
    at = sa.literal(now, sa.BigInteger)
    return sa.case((recorded > at, recorded), else_=at)


def _describe_changes(
    connection: Connection,
    campaign_ids: Collection[int],
    changes: Mapping[int, Counter[Engagement]],
) -> list[CampaignRollup]:
    as_of = dict(
        connection.execute(
            sa.select(campaigns.c.id, campaigns.c.engagement_as_of).where(
                campaigns.c.id.in_(campaign_ids)
            )
        ).all()
    )
    return [
        CampaignRollup(
            campaign=campaign, changes=changes.get(campaign.id, Counter()), as_of=as_of[campaign.id]
        )
        for campaign in load_campaigns(connection, sorted(campaign_ids))
    ]


def _quarters_of_day(day: date, zone: tzinfo) -> range:
    """Return the quarters of an hour of a local day, counted from 1970-01-01 00:00 UTC."""
    start, stop = (
        from_datetime(datetime.combine(midnight, time(), zone).astimezone(UTC))
        // QUARTER_MICROSECONDS
        for midnight in (day, day + timedelta(days=1))
    )
    return range(start, stop)


def _find_affected_campaigns(connection: Connection, day: date, quarters: range) -> list[int]:
    queries = (
        sa.select(engagement_days.c.campaign_id).where(engagement_days.c.day == day.isoformat()),
        sa.select(engagement_tallies.c.campaign_id).where(
            engagement_tallies.c.quarter.between(quarters.start, quarters.stop - 1)
        ),
        sa.select(engagements.c.campaign_id).where(
            engagements.c.at >= quarters.start * QUARTER_MICROSECONDS,
            engagements.c.at < quarters.stop * QUARTER_MICROSECONDS,
        ),
    )
    return sorted(connection.scalars(sa.union(*queries)))


def _read_totals(
    connection: Connection, campaign_ids: Sequence[int]
) -> dict[int, Counter[Engagement]]:
    """Return the recipients of all days, by campaign id and kind."""
    totals: dict[int, Counter[Engagement]] = {
        campaign_id: Counter() for campaign_id in campaign_ids
    }
    query = sa.select(
        engagement_days.c.campaign_id, engagement_days.c.kind, engagement_days.c.recipients
    ).where(engagement_days.c.campaign_id.in_(campaign_ids))
    for campaign_id, kind, recipients in connection.execute(query):
        totals[campaign_id][Engagement(kind)] += recipients
    return totals
