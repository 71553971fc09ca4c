"""Engagement: what recipients do with what was delivered, and what follows from it at once.

Every event is recorded as it comes. Beside them stand tallies, in the same transaction: how many
recipients did something for the first time, by quarter of an hour.
:mod:`tracker.record.rollup` adds these up to days.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_microseconds
from tracker.record.journal import Entry
from tracker.status import IMPLIED_ENGAGEMENTS, OPT_OUTS, Engagement
from tracker.store.schema.catalog import batches, campaigns, customers
from tracker.store.schema.engagement import engagement_days, engagement_tallies, engagements

QUARTER_MICROSECONDS = to_microseconds(timedelta(minutes=15))
"""Microseconds of a quarter of an hour: every time zone's days begin with one."""

RecipientAction = tuple[int, int]
"""A kind and a number: what a recipient does for the first time only once."""


class EngagementEvent(NamedTuple):
    """A recipient did something with a message."""

    number: int
    kind: Engagement
    at: Instant


def record_engagement(written: Entry, events: Sequence[EngagementEvent]) -> None:
    """Record events of an entry's batch, each once however often it is reported.

    What an event implies is recorded with it, at the same instant, unless the recipient has done it
    by then. Who marks a message as spam or unsubscribes gets no more on this channel.
    """
    batch = written.batch
    events = [event for event in events if batch.first <= event.number <= batch.last]
    if not events:
        return
    before = _read_first_times(written, sorted({event.number for event in events}))
    after = dict(before)
    for number, kind, at in events:
        after[kind, number] = min(at, after.get((kind, number), at))
    implied = _add_implied_events(events, after)
    _insert_events(written, [*events, *implied])
    _update_tallies(written, before, after)
    _opt_out_customers(written, events)


def _read_first_times(written: Entry, numbers: Sequence[int]) -> dict[RecipientAction, Instant]:
    """When recipients did something for the first time, as far as it is on record."""
    query = (
        sa.select(engagements.c.kind, engagements.c.number, sa.func.min(engagements.c.at))
        .where(
            engagements.c.campaign_id == written.batch.campaign.id,
            engagements.c.kind.in_(Engagement),
            written.database.in_list(engagements.c.number, numbers),
        )
        .group_by(engagements.c.kind, engagements.c.number)
    )
    return {(kind, number): at for kind, number, at in written.connection.execute(query)}


def _add_implied_events(
    events: Iterable[EngagementEvent], firsts: dict[RecipientAction, Instant]
) -> list[EngagementEvent]:
    """Events that must have happened and were not reported; adds them to ``firsts``."""
    found = []
    for number, kind, at in sorted(events, key=itemgetter(2)):
        for other in IMPLIED_ENGAGEMENTS.get(kind, ()):
            if at < firsts.get((other, number), at + 1):
                firsts[other, number] = at
                found.append(EngagementEvent(number, other, at))
    return found


def _insert_events(written: Entry, events: Sequence[EngagementEvent]) -> None:
    numbers, kinds, instants = zip(*events, strict=True)
    listed = written.database.table_from_columns(number=numbers, kind=kinds, at=instants)
    written.connection.execute(
        written.database.upsert(engagements)
        .from_select(
            ["campaign_id", "kind", "number", "at"],
            sa.select(
                sa.literal(written.batch.campaign.id, sa.Integer),
                *(listed.c.kind, listed.c.number, listed.c.at),
                # SQLite would take ON CONFLICT for a join's condition.
            ).where(sa.true()),
        )
        .on_conflict_do_nothing()
    )


def _update_tallies(
    written: Entry,
    before: Mapping[RecipientAction, Instant],
    after: Mapping[RecipientAction, Instant],
) -> None:
    """Count recipients in the quarter of their first event, and no longer in a later one."""
    changes: Counter[tuple[int, int]] = Counter()
    for first, at in after.items():
        earlier = before.get(first)
        if at != earlier:
            changes[first[0], at // QUARTER_MICROSECONDS] += 1
            if earlier is not None:
                changes[first[0], earlier // QUARTER_MICROSECONDS] -= 1
    batch = {"campaign_id": written.batch.campaign.id, "batch": written.batch.batch}
    more = [
        batch | {"kind": kind, "quarter": quarter, "recipients": count}
        for (kind, quarter), count in changes.items()
        if count > 0
    ]
    if more:
        insert = written.database.upsert(engagement_tallies)
        total = engagement_tallies.c.recipients + insert.excluded.recipients
        written.connection.execute(
            insert.on_conflict_do_update(
                index_elements=list(engagement_tallies.primary_key), set_={"recipients": total}
            ),
            more,
        )
    for (kind, quarter), count in changes.items():
        if count < 0:
            written.connection.execute(
                sa.update(engagement_tallies)
                .where(
                    engagement_tallies.c.campaign_id == batch["campaign_id"],
                    engagement_tallies.c.batch == batch["batch"],
                    engagement_tallies.c.kind == kind,
                    engagement_tallies.c.quarter == quarter,
                )
                .values(recipients=engagement_tallies.c.recipients + count)
            )


def _opt_out_customers(written: Entry, events: Iterable[EngagementEvent]) -> None:
    campaign = written.batch.campaign
    refusing = sorted({event.number for event in events if event.kind in OPT_OUTS})
    if refusing:
        written.connection.execute(
            sa.update(customers)
            .where(
                customers.c.audience_id == campaign.audience_id,
                written.database.in_list(customers.c.number, refusing),
            )
            .values({customers.c[f"unsubscribed_{campaign.channel}"]: True})
        )


def event_tallies_query(*those: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """What tallies must be (campaign, batch, kind, quarter, recipients), from the events of
    ``those`` campaigns: conditions on ``engagements``."""
    key = (engagements.c.campaign_id, engagements.c.kind, engagements.c.number)
    firsts = (
        sa.select(*key, sa.func.min(engagements.c.at).label("at"))
        .where(*those)
        .group_by(*key)
        .subquery("firsts")
    )
    quarter = (firsts.c.at // sa.literal(QUARTER_MICROSECONDS, sa.BigInteger)).label("quarter")
    tally = (firsts.c.campaign_id, batches.c.batch, firsts.c.kind, quarter)
    return (
        sa.select(*tally, sa.func.count().label("recipients"))
        .join(
            batches,
            sa.and_(
                batches.c.campaign_id == firsts.c.campaign_id,
                firsts.c.number >= batches.c.first,
                firsts.c.number < batches.c.first + batches.c.size,
            ),
        )
        .group_by(*tally)
    )


class EngagementCounts(NamedTuple):
    """How many recipients of a campaign did what. ``as_of``: when its days were rolled up last."""

    recipients: Counter[Engagement]
    as_of: Instant | None


def read_engagement_counts(
    connection: Connection, campaign_ids: Sequence[int]
) -> Mapping[int, EngagementCounts]:
    """What a report says, by campaign: refusals as they are, all else as of the last rollup."""
    as_of = dict(
        connection.execute(
            sa.select(campaigns.c.id, campaigns.c.engagement_as_of).where(
                campaigns.c.id.in_(campaign_ids)
            )
        ).all()
    )
    found = {each: EngagementCounts(Counter(), as_of.get(each)) for each in campaign_ids}
    live = engagement_tallies.c.kind.in_(OPT_OUTS)
    rolled = engagement_days.c.kind.not_in(OPT_OUTS)
    for table, wanted in ((engagement_tallies, live), (engagement_days, rolled)):
        query = (
            sa.select(table.c.campaign_id, table.c.kind, sa.func.sum(table.c.recipients))
            .where(table.c.campaign_id.in_(campaign_ids), wanted)
            .group_by(table.c.campaign_id, table.c.kind)
        )
        for campaign_id, kind, recipients in connection.execute(query):
            found[campaign_id].recipients[Engagement(kind)] = int(recipients)
    return found
