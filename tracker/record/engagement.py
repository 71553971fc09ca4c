"""Record engagement events, and what follows from them at once.

Each event is recorded as it comes. In the same transaction, tallies count the recipients by the
quarter of an hour of their first event. `tracker.record.rollup` adds these up to days.

Engagement is a part of Delivered. An opt-out is recorded before the delivery, too, and tallied once
the message is delivered. Once a message has bounced, its recipient is counted nowhere but in
`engaged_then_bounced`.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_microseconds
from tracker.record.catalog import Campaign
from tracker.record.customers.changes import set_customer_flag
from tracker.record.journal import Entry
from tracker.record.predicates import (
    is_of_batch,
    is_of_message_in,
    is_of_recorded_batch,
    is_same_message,
)
from tracker.status import IMPLIED_ENGAGEMENTS, OPT_OUTS, Channel, Engagement, Status
from tracker.store.database import Database
from tracker.store.schema.catalog import batches, campaigns
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
    implied: list[EngagementEvent] = []
    if batch.campaign.channel is Channel.EMAIL:
        implied = _add_implied_events(events, after)
    _insert_events(entry, [*events, *implied])
    undelivered = _read_undelivered(entry, numbers)
    if undelivered:
        bounced = {n for n, status in undelivered.items() if status == Status.HARD_BOUNCED}
        _count_bounced(entry, (_find_engaged(after) - _find_engaged(before)) & bounced)
        after = {action: at for action, at in after.items() if action[1] not in undelivered}
        before = {action: at for action, at in before.items() if action[1] not in undelivered}
    _update_tallies(entry, before, after)
    opt_out_customers(entry.database, entry.connection, batch.campaign, events)
    entry.suppressions.add_opt_outs(events)


def count_outcome(entry: Entry, source: Status, target: Status, numbers: Sequence[int]) -> None:
    """Count the recipients of messages that have just been delivered or bounced hard.

    Args:
        source: the status that the messages had before.
        target: the status that they have now.
    """
    if source is not Status.DELIVERED and not _has_opt_outs(entry):
        return  # only opt-outs are recorded before the delivery
    first_times = _read_first_times(entry, numbers)
    if target is Status.DELIVERED:
        _update_tallies(entry, {}, first_times)
    if source is Status.DELIVERED:
        _update_tallies(entry, first_times, {})
    if target is Status.HARD_BOUNCED:
        _count_bounced(entry, _find_engaged(first_times))


def _has_opt_outs(entry: Entry) -> bool:
    """Return whether a recipient of the batch has opted out."""
    opt_outs = sa.select(engagements.c.number).where(
        is_of_message_in(engagements, entry.batch), engagements.c.kind.in_(OPT_OUTS)
    )
    return bool(entry.connection.scalar(sa.select(opt_outs.exists())))


def _find_engaged(first_times: Iterable[RecipientAction]) -> set[int]:
    """Return the messages whose recipients did something themselves."""
    return {number for kind, number in first_times if kind != Engagement.MACHINE_OPENED}


def _read_undelivered(entry: Entry, numbers: Sequence[int]) -> dict[int, int]:
    """Return the codes of the statuses of those messages that aren't delivered, by number."""
    query = sa.select(messages.c.number, messages.c.status).where(
        messages.c.campaign_id == entry.batch.campaign.id,
        entry.database.in_list(messages.c.number, numbers),
        messages.c.status != Status.DELIVERED,
    )
    return dict(entry.connection.execute(query).all())


def _count_bounced(entry: Entry, numbers: Collection[int]) -> None:
    if numbers:
        key = {"campaign_id": entry.batch.campaign.id, "batch": entry.batch.batch}
        rows = [{**key, "messages": len(numbers)}]
        entry.database.add_to_rows(entry.connection, engaged_then_bounced, rows, "messages")


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
    entry.database.add_to_rows(entry.connection, engagement_tallies, gains, "recipients")
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


def opt_out_customers(
    database: Database,
    connection: Connection,
    campaign: Campaign,
    events: Iterable[EngagementEvent],
) -> None:
    """Record which customers opted out, and which of them because they marked spam."""
    events = [event for event in events if event.kind in OPT_OUTS]
    kinds_by_flag = {"unsubscribed": OPT_OUTS, "marked_spam": {Engagement.SPAM}}
    for flag, kinds in kinds_by_flag.items():
        numbers = sorted({event.number for event in events if event.kind in kinds})
        set_customer_flag(database, connection, campaign, flag, numbers)


def has_message(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return the condition that the message of a row of `engagements` meets some conditions."""
    return (
        sa.select(messages.c.number)
        .where(is_same_message(messages, engagements), *conditions)
        .exists()
    )


def event_tallies_query(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return a query for the right tallies: campaign_id, batch, kind, quarter, recipients.

    Recipients whose message isn't delivered, or has bounced since, are left out.

    Args:
        conditions: conditions on the rows of `engagements` to count.
    """
    action = (engagements.c.campaign_id, engagements.c.kind, engagements.c.number)
    first_times = (
        sa.select(*action, sa.func.min(engagements.c.at).label("at"))
        .where(*conditions, ~has_message(messages.c.status != Status.DELIVERED))
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
