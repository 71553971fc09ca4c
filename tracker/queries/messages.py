"""Finding the messages behind a number of the report, a page at a time.

The tallies say which batches hold what is looked for, and the messages of these are read by their
key: there is no index on the status, which would slow every move.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.record.catalog import Campaign
from tracker.status import Engagement, Reason, Status
from tracker.store.database import Database
from tracker.store.schema.catalog import batches, customers
from tracker.store.schema.engagement import engagements
from tracker.store.schema.messages import NO_REASON, messages, tallies

MAX_SCANNED_MESSAGES = 250_000
"""Messages that are looked at for one page, but at least those of a batch. A page of what is rare
may so be short, and is there in time; the next one goes on where it ended."""

BEFORE_FIRST = -1
"""The key before the first message."""


@dataclass(frozen=True, kw_only=True)
class MessageFilter:
    """Which messages are looked for: those in any of the ``statuses``, Not Sent for any of the
    ``reasons``, whose recipients did what ``engagement`` says, and the one to ``customer``. What is
    empty or None does not matter."""

    statuses: frozenset[Status] = frozenset()
    reasons: frozenset[Reason] = frozenset()
    engagement: Engagement | None = None
    customer: str | None = None


class MessageRow(NamedTuple):
    """A message, where it is, and to whom it goes."""

    number: int
    status: Status
    reason: Reason | None
    attempt: int
    customer_id: str
    email: str | None
    mobile: str | None


@dataclass(frozen=True, kw_only=True)
class MessagePage:
    """Messages in the order of their numbers. ``after`` is the key to go on from, None at the end;
    ``total`` is how many there are on all pages, None where nobody has counted them."""

    messages: Sequence[MessageRow]
    after: int | None
    total: int | None


def find_messages(
    database: Database,
    connection: Connection,
    campaign: Campaign,
    wanted: MessageFilter,
    *,
    after: int = BEFORE_FIRST,
    most: int,
) -> MessagePage:
    """The first ``most`` messages behind number ``after`` that are as ``wanted``."""
    if wanted.customer is not None:
        return _find_by_customer(database, connection, campaign, wanted)
    if wanted.engagement is not None:
        return _find_by_engagement(database, connection, campaign, wanted, after, most)
    numbers: list[int] = []
    reached: int | None = None
    looked_at = 0
    for first, last in _find_matching_batches(connection, campaign, wanted, after):
        if looked_at and looked_at + last - first >= MAX_SCANNED_MESSAGES:
            reached = first - 1
            break
        looked_at += last - first + 1
        numbers += connection.scalars(
            sa.select(messages.c.number)
            .where(
                messages.c.campaign_id == campaign.id,
                messages.c.number.between(max(first, after + 1), last),
                *_filter_conditions(messages, wanted),
            )
            .order_by(messages.c.number)
            .limit(most + 1 - len(numbers))
        )
        if len(numbers) > most:
            reached = numbers[most - 1]
            break
    return MessagePage(
        messages=_read_message_rows(database, connection, campaign, numbers[:most]),
        after=reached,
        total=_count_matches(connection, campaign, wanted),
    )


def _find_matching_batches(
    connection: Connection, campaign: Campaign, wanted: MessageFilter, after: int
) -> Iterator[tuple[int, int]]:
    """First and last number of the batches, in order, that hold what is wanted behind ``after``."""
    last = batches.c.first + batches.c.size - 1
    held = (
        sa.exists()
        .where(
            tallies.c.campaign_id == batches.c.campaign_id,
            tallies.c.batch == batches.c.batch,
            tallies.c.messages > 0,
            *_filter_conditions(tallies, wanted),
        )
        .correlate(batches)
    )
    query = (
        sa.select(batches.c.first, last)
        .where(batches.c.campaign_id == campaign.id, last > after, held)
        .order_by(batches.c.first)
    )
    for row in connection.execute(query).all():
        yield row[0], row[1]


def _filter_conditions(table: sa.Table, wanted: MessageFilter) -> Iterator[sa.ColumnElement[bool]]:
    if wanted.statuses:
        yield table.c.status.in_(wanted.statuses)
    if wanted.reasons:
        yield table.c.reason.in_(wanted.reasons)


def _count_matches(connection: Connection, campaign: Campaign, wanted: MessageFilter) -> int:
    found = connection.scalar(
        sa.select(sa.func.sum(tallies.c.messages)).where(
            tallies.c.campaign_id == campaign.id, *_filter_conditions(tallies, wanted)
        )
    )
    return int(found or 0)


def _find_by_engagement(
    database: Database,
    connection: Connection,
    campaign: Campaign,
    wanted: MessageFilter,
    after: int,
    most: int,
) -> MessagePage:
    """Engagement is kept in the order of kind and number: it is found at once."""
    query = (
        sa.select(engagements.c.number)
        .distinct()
        .where(
            engagements.c.campaign_id == campaign.id,
            engagements.c.kind == wanted.engagement,
            engagements.c.number > after,
        )
        .order_by(engagements.c.number)
        .limit(most + 1)
    )
    numbers = list(connection.scalars(query))
    return MessagePage(
        messages=_read_message_rows(database, connection, campaign, numbers[:most]),
        after=numbers[most - 1] if len(numbers) > most else None,
        total=None,
    )


def _find_by_customer(
    database: Database, connection: Connection, campaign: Campaign, wanted: MessageFilter
) -> MessagePage:
    number = connection.scalar(
        sa.select(customers.c.number).where(
            customers.c.customer_id == wanted.customer,
            customers.c.audience_id == campaign.audience_id,
        )
    )
    found = [] if number is None else _read_message_rows(database, connection, campaign, [number])
    fitting = [
        each
        for each in found
        if (not wanted.statuses or each.status in wanted.statuses)
        and (not wanted.reasons or each.reason in wanted.reasons)
    ]
    return MessagePage(messages=fitting, after=None, total=len(fitting))


def _read_message_rows(
    database: Database, connection: Connection, campaign: Campaign, numbers: Sequence[int]
) -> list[MessageRow]:
    if not numbers:
        return []
    query = (
        sa.select(
            messages.c.number,
            messages.c.status,
            messages.c.reason,
            messages.c.attempt,
            customers.c.customer_id,
            customers.c.email,
            customers.c.mobile,
        )
        .outerjoin(
            customers,
            sa.and_(
                customers.c.audience_id == campaign.audience_id,
                customers.c.number == messages.c.number,
            ),
        )
        .where(messages.c.campaign_id == campaign.id, database.in_list(messages.c.number, numbers))
        .order_by(messages.c.number)
    )
    return [
        MessageRow(
            number=row.number,
            status=Status(row.status),
            reason=None if row.reason == NO_REASON else Reason(row.reason),
            attempt=row.attempt,
            customer_id=row.customer_id or "",
            email=row.email,
            mobile=row.mobile,
        )
        for row in connection.execute(query)
    ]
