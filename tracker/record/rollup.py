"""The rollup: how many recipients did what for the first time on each local day.

It counts what the tallies of :mod:`tracker.record.engagement` have more than when it ran last, so
its cost grows with what is new. A quarter of an hour belongs to the day that it begins on in the
configured time zone, on nights of 23 or 25 hours, too.

Whoever rolls up under another time zone than before counts new events by the new zone and leaves
the days that were counted before as they are: their sum stays right. :func:`recount_day` counts all
days of the campaigns of a day anew, by the zone of now.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, from_datetime, to_datetime
from tracker.record import catalog
from tracker.record.engagement import QUARTER_MICROSECONDS, event_tallies_query
from tracker.status import Engagement
from tracker.store.database import Database
from tracker.store.schema.catalog import campaigns, runs
from tracker.store.schema.engagement import engagement_days, engagement_tallies, engagements

LATEST_INSTANT = from_datetime(datetime.max.replace(tzinfo=UTC))
"""What a run that was given up long ago and played fast takes for now may be no date any more."""

DayCounts = Counter[tuple[int, str, int]]
"""Recipients by campaign, local day and kind."""


@dataclass(frozen=True, kw_only=True)
class CampaignRollup:
    """What a rollup changed of a campaign: recipients more (or fewer) than before."""

    campaign: catalog.Campaign
    changes: Counter[Engagement]
    as_of: Instant


def roll_up_engagement(database: Database, zone: tzinfo) -> list[CampaignRollup]:
    """Bring the days up to date with everything that is on record.

    All of it or nothing: it may be repeated, done twice at once, or fail half-way.
    """
    with database.write() as connection:
        database.lock_table(connection, engagement_tallies)
        changes = _read_new_counts(connection, zone)
        connection.execute(
            sa.update(engagement_tallies)
            .where(_IS_NEW)
            .values(rolled=engagement_tallies.c.recipients)
        )
        torn = _add_to_days(database, connection, changes)
        if torn:
            _rebuild_days(connection, sorted(torn), zone)
        return _record_rollup_time(connection, _sum_by_kind(changes))


_IS_NEW = engagement_tallies.c.recipients != engagement_tallies.c.rolled


def _read_new_counts(connection: Connection, zone: tzinfo) -> DayCounts:
    """What the days lack."""
    more = sa.func.sum(engagement_tallies.c.recipients - engagement_tallies.c.rolled)
    return _read_counts_by_day(connection, _quarter_counts_query(more).where(_IS_NEW), zone)


def _quarter_counts_query(figure: sa.ColumnElement[int]) -> sa.Select[Any]:
    key = [engagement_tallies.c[each] for each in ("campaign_id", "kind", "quarter")]
    return sa.select(*key, figure).group_by(*key)


def _read_counts_by_day(connection: Connection, query: sa.Select[Any], zone: tzinfo) -> DayCounts:
    days: dict[int, str] = {}
    found: DayCounts = Counter()
    for campaign_id, kind, quarter, recipients in connection.execute(query):
        if quarter not in days:
            begins = to_datetime(quarter * QUARTER_MICROSECONDS)
            days[quarter] = begins.astimezone(zone).date().isoformat()
        found[campaign_id, days[quarter], kind] += int(recipients)
    return found


def _add_to_days(database: Database, connection: Connection, changes: DayCounts) -> set[int]:
    """Change the days; the campaigns of which that can't be.

    A day has fewer than are to be taken away if it was counted under another time zone.
    """
    gained = [
        {"campaign_id": campaign_id, "day": day, "kind": kind, "recipients": count}
        for (campaign_id, day, kind), count in changes.items()
        if count > 0
    ]
    if gained:
        insert = database.upsert(engagement_days)
        total = engagement_days.c.recipients + insert.excluded.recipients
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=list(engagement_days.primary_key), set_={"recipients": total}
            ),
            gained,
        )
    torn = set()
    for (campaign_id, day, kind), count in changes.items():
        if count < 0:
            taken = connection.execute(
                sa.update(engagement_days)
                .where(
                    engagement_days.c.campaign_id == campaign_id,
                    engagement_days.c.day == day,
                    engagement_days.c.kind == kind,
                    engagement_days.c.recipients >= -count,
                )
                .values(recipients=engagement_days.c.recipients + count)
            ).rowcount
            if not taken:
                torn.add(campaign_id)
    return torn


def _rebuild_days(connection: Connection, campaign_ids: Sequence[int], zone: tzinfo) -> None:
    """Count all days of campaigns from their tallies."""
    total = sa.func.sum(engagement_tallies.c.recipients)
    of_them = engagement_tallies.c.campaign_id.in_(campaign_ids)
    days = _read_counts_by_day(connection, _quarter_counts_query(total).where(of_them), zone)
    connection.execute(
        sa.delete(engagement_days).where(engagement_days.c.campaign_id.in_(campaign_ids))
    )
    if days:
        connection.execute(
            sa.insert(engagement_days),
            [
                {"campaign_id": campaign_id, "day": day, "kind": kind, "recipients": count}
                for (campaign_id, day, kind), count in days.items()
            ],
        )
    connection.execute(
        sa.update(engagement_tallies)
        .where(of_them, _IS_NEW)
        .values(rolled=engagement_tallies.c.recipients)
    )


def _sum_by_kind(changes: DayCounts) -> dict[int, Counter[Engagement]]:
    found: defaultdict[int, Counter[Engagement]] = defaultdict(Counter)
    for (campaign_id, _, kind), count in changes.items():
        found[campaign_id][Engagement(kind)] += count
    return found


def _record_rollup_time(
    connection: Connection, changes: Mapping[int, Counter[Engagement]]
) -> list[CampaignRollup]:
    """Note when it was, for what changed and for what may yet change: campaigns under way."""
    under_way = sa.and_(campaigns.c.tracks_engagement, runs.c.finished_at.is_(None))
    concerned = connection.scalars(
        sa.select(campaigns.c.id)
        .join(runs, runs.c.id == campaigns.c.run_id)
        .where(sa.or_(under_way, campaigns.c.id.in_(sorted(changes))))
        .order_by(campaigns.c.id)
    ).all()
    done = []
    for campaign_id in concerned:
        campaign = catalog.load_campaign(connection, campaign_id)
        as_of = min(campaign.clock.now(), LATEST_INSTANT)
        connection.execute(
            sa.update(campaigns).where(campaigns.c.id == campaign_id).values(engagement_as_of=as_of)
        )
        changed = changes.get(campaign_id, Counter())
        done.append(CampaignRollup(campaign=campaign, changes=changed, as_of=as_of))
    return done


def recount_day(database: Database, day: date, zone: tzinfo) -> list[CampaignRollup]:
    """Count a local day from the events themselves, then all days of its campaigns anew.

    Campaigns of which nothing is known on that day, neither events nor counts, are left alone.
    """
    quarters = _quarters_of_day(day, zone)
    with database.read() as connection:
        concerned = _find_affected_campaigns(
            connection, day, quarters
        )  # reads all events: nobody waits for that
    with database.write() as connection:
        database.lock_table(connection, engagement_tallies)
        before = _read_totals(connection, concerned)
        of_day = sa.and_(
            engagement_tallies.c.campaign_id.in_(concerned),
            engagement_tallies.c.quarter.between(quarters.start, quarters.stop - 1),
        )
        connection.execute(sa.delete(engagement_tallies).where(of_day))
        found = event_tallies_query(engagements.c.campaign_id.in_(concerned)).subquery()
        connection.execute(
            sa.insert(engagement_tallies).from_select(
                ["campaign_id", "batch", "kind", "quarter", "recipients"],
                sa.select(found).where(found.c.quarter.between(quarters.start, quarters.stop - 1)),
            )
        )
        _rebuild_days(connection, concerned, zone)
        changes = _read_totals(connection, concerned)
        for campaign_id, counts in changes.items():
            counts.subtract(before[campaign_id])
        return [
            each for each in _record_rollup_time(connection, changes) if each.campaign.id in changes
        ]


def _quarters_of_day(day: date, zone: tzinfo) -> range:
    begins, ends = (
        from_datetime(datetime.combine(each, time(), zone).astimezone(UTC)) // QUARTER_MICROSECONDS
        for each in (day, day + timedelta(days=1))
    )
    return range(begins, ends)


def _find_affected_campaigns(connection: Connection, day: date, quarters: range) -> list[int]:
    known = (
        sa.select(engagement_days.c.campaign_id).where(engagement_days.c.day == day.isoformat()),
        sa.select(engagement_tallies.c.campaign_id).where(
            engagement_tallies.c.quarter.between(quarters.start, quarters.stop - 1)
        ),
        sa.select(engagements.c.campaign_id).where(
            engagements.c.at >= quarters.start * QUARTER_MICROSECONDS,
            engagements.c.at < quarters.stop * QUARTER_MICROSECONDS,
        ),
    )
    return sorted(connection.scalars(sa.union(*known)))


def _read_totals(
    connection: Connection, campaign_ids: Sequence[int]
) -> dict[int, Counter[Engagement]]:
    found: dict[int, Counter[Engagement]] = {each: Counter() for each in campaign_ids}
    query = sa.select(
        engagement_days.c.campaign_id, engagement_days.c.kind, engagement_days.c.recipients
    ).where(engagement_days.c.campaign_id.in_(campaign_ids))
    for campaign_id, kind, recipients in connection.execute(query):
        found[campaign_id][Engagement(kind)] += recipients
    return found
