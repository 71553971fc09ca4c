"""Record engagement events, and what follows from them at once.

Each event is recorded as it comes. In the same transaction, tallies count the recipients by the
quarter of an hour of their first event. `tracker.record.rollup` adds these up to days.

Engagement is a part of Delivered. Once a message has bounced, its recipient is counted nowhere but
in `engaged_then_bounced`.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_microseconds
from tracker.record.journal import Entry
from tracker.record.predicates import is_of_batch, is_of_recorded_batch, is_same_message
from tracker.status import IMPLIED_ENGAGEMENTS, OPT_OUTS, Engagement, Status
from tracker.store.schema.catalog import batches, campaigns, customers
from tracker.store.schema.engagement import (
    engaged_then_bounced,
    engagement_days,
    engagement_tallies,
    engagements,
)
from tracker.store.schema.messages import messages

QUARTER_MICROSECONDS = to_microseconds(timedelta(minutes=15))
"""Microseconds of a quarter of an hour; days begin with one in every time zone."""

RecipientAction = tuple[int, int]
"""A kind and a number: an action that a recipient does for the first time once."""


class EngagementEvent(NamedTuple):
    """An action of a recipient on a message."""

    number: int
    kind: Engagement
    at: Instant


def record_engagement(entry: Entry, events: Sequence[EngagementEvent]) -> None:
    """Record events of an entry's batch, each once however often it is reported.

    The events that an event implies are recorded with it, at the same instant, unless the recipient
    had them by then. A recipient who opts out gets no more messages on the channel.
    """
    batch = entry.batch
    events = [event for event in events if batch.first <= event.number <= batch.last]
    if not events:
        return
    numbers = sorted({event.number for event in events})
    before = _read_first_times(entry, numbers)
    after = dict(before)
    for number, kind, at in events:
        after[kind, number] = min(at, after.get((kind, number), at))
    implied = _add_implied_events(events, after)
    _insert_events(entry, [*events, *implied])
    bounced = _read_bounced_numbers(entry, numbers)
    if bounced:
        _count_bounced(entry, (_find_engaged(after) - _find_engaged(before)) & bounced)
        after = {action: at for action, at in after.items() if action[1] not in bounced}
        before = {action: at for action, at in before.items() if action[1] not in bounced}
    _update_tallies(entry, before, after)
    _opt_out_customers(entry, events)


def discount_bounced(entry: Entry, numbers: Sequence[int]) -> None:
    """Count the recipients of delivered messages that have just bounced as engaged then bounced."""
    before = _read_first_times(entry, numbers)
    _update_tallies(entry, before, {})
    _count_bounced(entry, _find_engaged(before))


def _find_engaged(first_times: Iterable[RecipientAction]) -> set[int]:
    """Return the messages whose recipients did something themselves."""
    return {number for kind, number in first_times if kind != Engagement.MACHINE_OPENED}


def _read_bounced_numbers(entry: Entry, numbers: Sequence[int]) -> set[int]:
    query = sa.select(messages.c.number).where(
        messages.c.campaign_id == entry.batch.campaign.id,
        entry.database.in_list(messages.c.number, numbers),
        messages.c.status == Status.HARD_BOUNCED,
    )
    return set(entry.connection.scalars(query))


def _count_bounced(entry: Entry, numbers: Collection[int]) -> None:
    if numbers:
        entry.connection.execute(
            entry.database.insert_or_add(engaged_then_bounced, "messages").values(
                campaign_id=entry.batch.campaign.id, batch=entry.batch.batch, messages=len(numbers)
            )
        )


def _read_first_times(entry: Entry, numbers: Sequence[int]) -> dict[RecipientAction, Instant]:
    """Return when recipients first did something, as recorded so far."""
    query = (
        sa.select(engagements.c.kind, engagements.c.number, sa.func.min(engagements.c.at))
        .where(
            engagements.c.campaign_id == entry.batch.campaign.id,
            engagements.c.kind.in_(Engagement),
            entry.database.in_list(engagements.c.number, numbers),
        )
        .group_by(engagements.c.kind, engagements.c.number)
    )
    return {(kind, number): at for kind, number, at in entry.connection.execute(query)}


def _add_implied_events(
    events: Iterable[EngagementEvent], first_times: dict[RecipientAction, Instant]
) -> list[EngagementEvent]:
    """Return events that must have happened and weren't reported; add them to `first_times`."""
    implied = []
    for number, kind, at in sorted(events, key=attrgetter("at")):
        for implied_kind in IMPLIED_ENGAGEMENTS.get(kind, ()):
            if at < first_times.get((implied_kind, number), at + 1):
                first_times[implied_kind, number] = at
                implied.append(EngagementEvent(number, implied_kind, at))
    return implied


def _insert_events(entry: Entry, events: Sequence[EngagementEvent]) -> None:
    numbers, kinds, instants = zip(*events, strict=True)
    rows = entry.database.table_from_columns(number=numbers, kind=kinds, at=instants)
    campaign_id = sa.literal(entry.batch.campaign.id, sa.Integer)
    entry.connection.execute(
        entry.database.insert_missing_from(
            engagements,
            ["campaign_id", "kind", "number", "at"],
            sa.select(campaign_id, rows.c.kind, rows.c.number, rows.c.at),
        )
    )


def _update_tallies(
    entry: Entry,
    before: Mapping[RecipientAction, Instant],
    after: Mapping[RecipientAction, Instant],
) -> None:
    """Count recipients in the quarter of their first event, and no longer in another one."""
    changes: Counter[tuple[int, int]] = Counter()
    for first_times, change in ((after, 1), (before, -1)):
        for (kind, _), at in first_times.items():
            changes[kind, at // QUARTER_MICROSECONDS] += change
    key = {"campaign_id": entry.batch.campaign.id, "batch": entry.batch.batch}
    gains = [
        {**key, "kind": kind, "quarter": quarter, "recipients": count}
        for (kind, quarter), count in changes.items()
        if count > 0
    ]
    if gains:
        insert = entry.database.insert_or_add(engagement_tallies, "recipients")
        entry.connection.execute(insert, gains)
    for (kind, quarter), count in changes.items():
        if count < 0:
            entry.connection.execute(
                sa.update(engagement_tallies)
                .where(
                    is_of_batch(engagement_tallies, entry.batch),
                    engagement_tallies.c.kind == kind,
                    engagement_tallies.c.quarter == quarter,
                )
                .values(recipients=engagement_tallies.c.recipients + count)
            )


def _opt_out_customers(entry: Entry, events: Sequence[EngagementEvent]) -> None:
    """Record which customers opted out, and which of them because they marked spam."""
    campaign = entry.batch.campaign
    kinds_by_flag = {"unsubscribed": OPT_OUTS, "marked_spam": {Engagement.SPAM}}
    for flag, kinds in kinds_by_flag.items():
        numbers = sorted({event.number for event in events if event.kind in kinds})
        if numbers:
            entry.connection.execute(
                sa.update(customers)
                .where(
                    customers.c.audience_id == campaign.audience_id,
                    entry.database.in_list(customers.c.number, numbers),
                )
                .values({customers.c[f"{flag}_{campaign.channel}"]: True})
            )


def has_bounced() -> sa.ColumnElement[bool]:
    """Return the condition that the message of a row of `engagements` has bounced."""
    return (
        sa.select(messages.c.number)
        .where(is_same_message(messages, engagements), messages.c.status == Status.HARD_BOUNCED)
        .exists()
    )


def event_tallies_query(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return a query for the right tallies: campaign_id, batch, kind, quarter, recipients.

    Recipients whose message bounced are left out.

    Args:
        conditions: conditions on the rows of `engagements` to count.
    """
    action = (engagements.c.campaign_id, engagements.c.kind, engagements.c.number)
    first_times = (
        sa.select(*action, sa.func.min(engagements.c.at).label("at"))
        .where(*conditions, ~has_bounced())
        .group_by(*action)
        .subquery("first_times")
    )
    quarter = (first_times.c.at // sa.literal(QUARTER_MICROSECONDS, sa.BigInteger)).label("quarter")
    key = (first_times.c.campaign_id, batches.c.batch, first_times.c.kind, quarter)
    return (
        sa.select(*key, sa.func.count().label("recipients"))
        .join(batches, is_of_recorded_batch(first_times))
        .group_by(*key)
    )


class EngagementCounts(NamedTuple):
    """Recipients of a campaign by kind of engagement.

    Attributes:
        recipients: recipients whose message didn't bounce.
        days: those of each local day as of the last rollup, without machine opens; by ISO date.
        as_of: time of the last rollup.
        then_bounced: messages that bounced although their recipients engaged.
    """

    recipients: Counter[Engagement]
    days: dict[str, Counter[Engagement]]
    as_of: Instant | None
    then_bounced: int


def read_engagement_counts(
    connection: Connection, campaign_ids: Sequence[int]
) -> Mapping[int, EngagementCounts]:
    """Return what a report says of engagement, by campaign id.

    Opt-outs are as of now, all other kinds as of the last rollup.
    """
    as_of = dict(
        connection.execute(
            sa.select(campaigns.c.id, campaigns.c.engagement_as_of).where(
                campaigns.c.id.in_(campaign_ids)
            )
        ).all()
    )
    bounced = engaged_then_bounced.c
    then_bounced = dict(
        connection.execute(
            sa.select(bounced.campaign_id, sa.func.sum(bounced.messages))
            .where(bounced.campaign_id.in_(campaign_ids))
            .group_by(bounced.campaign_id)
        ).all()
    )
    counts = {
        campaign_id: EngagementCounts(
            recipients=Counter(),
            days={},
            as_of=as_of.get(campaign_id),
            then_bounced=int(then_bounced.get(campaign_id, 0)),
        )
        for campaign_id in campaign_ids
    }
    _add_opt_outs(connection, counts)
    _add_days(connection, counts)
    return counts


def _add_opt_outs(connection: Connection, counts: Mapping[int, EngagementCounts]) -> None:
    key = (engagement_tallies.c.campaign_id, engagement_tallies.c.kind)
    query = (
        sa.select(*key, sa.func.sum(engagement_tallies.c.recipients))
        .where(
            engagement_tallies.c.campaign_id.in_(counts), engagement_tallies.c.kind.in_(OPT_OUTS)
        )
        .group_by(*key)
    )
    for campaign_id, kind, recipients in connection.execute(query):
        counts[campaign_id].recipients[Engagement(kind)] = int(recipients)


def _add_days(connection: Connection, counts: Mapping[int, EngagementCounts]) -> None:
    columns = [engagement_days.c[name] for name in ("campaign_id", "day", "kind", "recipients")]
    query = (
        sa.select(*columns)
        .where(engagement_days.c.campaign_id.in_(counts), engagement_days.c.recipients > 0)
        .order_by(engagement_days.c.day)
    )
    for campaign_id, day, kind, recipients in connection.execute(query):
        campaign = counts[campaign_id]
        if kind != Engagement.MACHINE_OPENED:
            campaign.days.setdefault(day, Counter())[Engagement(kind)] = recipients
        if kind not in OPT_OUTS:
            campaign.recipients[Engagement(kind)] += recipients
