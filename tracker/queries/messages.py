"""Find the messages behind a number of the report, one page at a time.

The tallies tell which batches hold matching messages, and only these batches are read. There is no
index on the status, since it would slow down every transition.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.queries.message_lookup import recipient_numbers
from tracker.record.catalog import Campaign
from tracker.record.predicates import is_same_batch, is_same_message
from tracker.record.unconfirmed import is_unconfirmed
from tracker.status import Engagement, Reason, Status
from tracker.store.database import Database
from tracker.store.schema.catalog import batches, customers
from tracker.store.schema.engagement import engagements
from tracker.store.schema.messages import NO_REASON, messages, tallies
from tracker.store.schema.work import deferrals

MAX_SCANNED_MESSAGES = 250_000
"""Messages that are read for one page, but at least one batch.

A page of rare messages may therefore be short; the next page continues where the scan ended.
"""

BEFORE_FIRST = -1
"""Page key before the first message."""


@dataclass(frozen=True, kw_only=True)
class MessageFilter:
    """Conditions that a message has to meet; an empty one, or None, is met by every message.

    Attributes:
        customer: the id of a customer, or an address or mobile number that several may have.
        is_deferred: True to match only messages that a rule deferred, False to match all.
        is_unconfirmed: True to match only messages handed over without a reply, False to match all.
    """

    statuses: frozenset[Status] = frozenset()
    reasons: frozenset[Reason] = frozenset()
    engagement: Engagement | None = None
    customer: str | None = None
    is_deferred: bool = False
    is_unconfirmed: bool = False

    @property
    def is_countable(self) -> bool:
        """True if the tallies tell how many messages match."""
        return not (self.is_deferred or self.is_unconfirmed)


class MessageRow(NamedTuple):
    """A message with its state and its customer."""

    number: int
    status: Status
    reason: Reason | None
    attempt: int
    customer_id: str
    email: str | None
    mobile: str | None


@dataclass(frozen=True, kw_only=True)
class MessagePage:
    """Matching messages in the order of their numbers.

    Attributes:
        after: key of the next page; None on the last page.
        total: matching messages on all pages; None where it isn't known.
    """

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
    limit: int,
) -> MessagePage:
    """Return at most `limit` matching messages after the previous page's key, `after`."""
    if wanted.is_deferred and wanted.engagement is not None:  # deferred messages aren't sent yet
        return MessagePage(messages=(), after=None, total=0)
    if wanted.customer is not None:
        recipients = recipient_numbers(connection, campaign, wanted.customer)
        return _find_by_customer(database, connection, campaign, wanted, recipients, after, limit)
    if wanted.engagement is not None:
        return _find_by_engagement(database, connection, campaign, wanted, after, limit)
    numbers, next_after = _scan_batches(connection, campaign, wanted, after, limit)
    return MessagePage(
        messages=_read_message_rows(database, connection, campaign, numbers),
        after=next_after,
        total=_count_matches(connection, campaign, wanted) if wanted.is_countable else None,
    )


def _scan_batches(
    connection: Connection, campaign: Campaign, wanted: MessageFilter, after: int, limit: int
) -> tuple[list[int], int | None]:
    """Return the numbers of a page's messages, and the key of the next page."""
    numbers: list[int] = []
    scanned = 0
    for batch, first, last in _find_matching_batches(connection, campaign, wanted, after):
        if scanned and scanned + last - first >= MAX_SCANNED_MESSAGES:
            return numbers, first - 1
        scanned += last - first + 1
        query = sa.select(messages.c.number).where(
            messages.c.campaign_id == campaign.id,
            messages.c.number.between(max(first, after + 1), last),
            *_filter_conditions(messages, wanted),
            *_waiting_conditions(campaign, wanted, batch),
        )
        numbers += connection.scalars(
            query.order_by(messages.c.number).limit(limit + 1 - len(numbers))
        )
        if len(numbers) > limit:
            return numbers[:limit], numbers[limit - 1]
    return numbers, None


def _find_matching_batches(
    connection: Connection, campaign: Campaign, wanted: MessageFilter, after: int
) -> Iterator[tuple[int, int, int]]:
    """Yield the batches that hold matches after a number, in order: number, first, last message."""
    last = batches.c.first + batches.c.size - 1
    has_matches = (
        sa.exists()
        .where(
            is_same_batch(tallies, batches),
            tallies.c.messages > 0,
            *_filter_conditions(tallies, wanted),
        )
        .correlate(batches)
    )
    query = (
        sa.select(batches.c.batch, batches.c.first, last)
        .where(batches.c.campaign_id == campaign.id, last > after, has_matches)
        .order_by(batches.c.first)
    )
    if wanted.is_deferred:
        query = query.where(batches.c.deferred > 0)
    if wanted.is_unconfirmed:
        query = query.where(batches.c.unconfirmed > 0)
    for row in connection.execute(query).all():
        yield row[0], row[1], row[2]


def _filter_conditions(table: sa.Table, wanted: MessageFilter) -> Iterator[sa.ColumnElement[bool]]:
    if wanted.statuses:
        yield table.c.status.in_(wanted.statuses)
    if wanted.reasons:
        yield table.c.reason.in_(wanted.reasons)


def _waiting_conditions(
    campaign: Campaign, wanted: MessageFilter, batch: int | None = None
) -> Iterator[sa.ColumnElement[bool]]:
    """Yield the conditions on `messages`, of one batch or all, that the tallies don't count."""
    if wanted.is_deferred:
        deferred = sa.select(deferrals.c.number).where(deferrals.c.campaign_id == campaign.id)
        if batch is not None:
            deferred = deferred.where(deferrals.c.batch == batch)
        yield messages.c.number.in_(deferred)
    if wanted.is_unconfirmed:
        yield is_unconfirmed()


def _count_matches(connection: Connection, campaign: Campaign, wanted: MessageFilter) -> int:
    count = connection.scalar(
        sa.select(sa.func.sum(tallies.c.messages)).where(
            tallies.c.campaign_id == campaign.id, *_filter_conditions(tallies, wanted)
        )
    )
    return int(count or 0)


def _find_by_engagement(
    database: Database,
    connection: Connection,
    campaign: Campaign,
    wanted: MessageFilter,
    after: int,
    limit: int,
) -> MessagePage:
    """Return a page of engagement, which is indexed by kind and number, so nothing is scanned."""
    query = (
        sa.select(engagements.c.number)
        .distinct()
        .join(messages, is_same_message(messages, engagements))
        .where(
            engagements.c.campaign_id == campaign.id,
            engagements.c.kind == wanted.engagement,
            engagements.c.number > after,
            *_filter_conditions(messages, wanted),
            *_waiting_conditions(campaign, wanted),
        )
        .order_by(engagements.c.number)
        .limit(limit + 1)
    )
    numbers = connection.scalars(query).all()
    return _read_page(database, connection, campaign, numbers, limit, total=None)


def _find_by_customer(
    database: Database,
    connection: Connection,
    campaign: Campaign,
    wanted: MessageFilter,
    recipients: sa.Select[int],
    after: int,
    limit: int,
) -> MessagePage:
    query = sa.select(messages.c.number).where(
        messages.c.campaign_id == campaign.id,
        messages.c.number.in_(recipients),
        *_filter_conditions(messages, wanted),
        *_waiting_conditions(campaign, wanted),
    )
    if wanted.engagement is not None:
        is_engaged = sa.exists().where(
            is_same_message(engagements, messages), engagements.c.kind == wanted.engagement
        )
        query = query.where(is_engaged)
    following = query.where(messages.c.number > after).order_by(messages.c.number)
    numbers = connection.scalars(following.limit(limit + 1)).all()
    total = connection.scalar(sa.select(sa.func.count()).select_from(query.subquery()))
    return _read_page(database, connection, campaign, numbers, limit, total=total)


def _read_page(
    database: Database,
    connection: Connection,
    campaign: Campaign,
    numbers: Sequence[int],
    limit: int,
    total: int | None,
) -> MessagePage:
    """Return the page of messages with these numbers, of which one more than `limit` may be given.

    That one shows that another page follows.
    """
    return MessagePage(
        messages=_read_message_rows(database, connection, campaign, numbers[:limit]),
        after=numbers[limit - 1] if len(numbers) > limit else None,
        total=total,
    )


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
