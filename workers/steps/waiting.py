"""Find the messages of a batch that wait for submission to a gateway."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.queries.batch_states import count_states
from tracker.queries.retries import retry_due_time
from tracker.record.actions.submissions import may_be_in_gateway
from tracker.record.arrivals import read_latest_arrival
from tracker.record.catalog import Batch, Campaign
from tracker.record.predicates import is_of_message_in
from tracker.status import Status
from tracker.store.arrays import read_numbers_by_key
from tracker.store.schema.messages import messages
from workers.gateways.throttle import Throttle
from workers.steps.context import StepContext


class WaitingMessages(NamedTuple):
    """Messages of a batch that wait for submission.

    Attributes:
        messages: how many.
        ready_at: since when those to submit first have been waiting; None if that doesn't matter.
        condition: selects those to submit first among the batch's messages.
    """

    messages: int
    ready_at: Instant | None
    condition: sa.ColumnElement[bool]


def find_waiting(context: StepContext, throttle: Throttle) -> WaitingMessages:
    """Return the messages to submit.

    If the gateway keeps to instants, messages on their first attempt go before those that are
    submitted again. No message can be accepted before it was ready, and messages to retry became
    ready later. Of these, as many as a grant can have are submitted first: the latest bounce
    doesn't keep back older ones.
    """
    campaign = context.campaign
    is_new = messages.c.status == Status.ABOUT_TO_BE_SENT
    is_due_again = sa.and_(
        messages.c.status == Status.SOFT_BOUNCED,
        messages.c.attempt < campaign.attempts,
        _is_retry_due(campaign),
    )
    is_in_batch = is_of_message_in(messages, context.batch)
    count = sa.func.count()
    with context.database.read() as connection:
        counts = count_states(connection, context.batch)
        # A batch that has no turn yet asks in vain, so its messages aren't read only to count them.
        new = counts[Status.ABOUT_TO_BE_SENT, 0]
        if not counts:  # a segment of a batch
            new = connection.scalar(sa.select(count).where(is_in_batch, is_new)) or 0
        if not throttle.keeps_to_instants:
            again = 0
            if not counts or any(status == Status.SOFT_BOUNCED for status, _ in counts):
                again = connection.scalar(sa.select(count).where(is_in_batch, is_due_again)) or 0
            return WaitingMessages(new + again, None, sa.or_(is_new, is_due_again))
        if new:
            numbers = range(context.batch.first, context.batch.last + 1)
            ready_at = read_latest_arrival(
                connection, campaign.id, Status.ABOUT_TO_BE_SENT, 0, numbers
            )
            return WaitingMessages(new, ready_at, is_new)
        due_at = retry_due_time(campaign)
        first = (
            sa.select(due_at.label("due_at"), count.over().label("messages"))
            .where(is_in_batch, is_due_again)
            .order_by("due_at")
            .limit(throttle.max_grant)
            .subquery()
        )
        again, ready_at = connection.execute(
            sa.select(sa.func.max(first.c.messages), sa.func.max(first.c.due_at))
        ).one()
        is_first = sa.and_(is_due_again, due_at <= sa.literal(ready_at, sa.BigInteger))
        return WaitingMessages(again or 0, ready_at, is_first)


def read_waiting_numbers(
    connection: Connection, batch: Batch, waiting: WaitingMessages, limit: int
) -> Mapping[tuple[int, ...], Sequence[int]]:
    """Return the first of a batch's waiting messages by their status and attempt."""
    new = (Status.ABOUT_TO_BE_SENT, 0)
    is_whole = waiting.messages == batch.size
    if is_whole and count_states(connection, batch)[new] == batch.size:
        numbers = range(batch.first, batch.last + 1)[:limit]
        return {new: numbers} if numbers else {}
    query = sa.select(messages.c.number, messages.c.status, messages.c.attempt).where(
        is_of_message_in(messages, batch), waiting.condition
    )
    return read_numbers_by_key(connection, query.order_by(messages.c.number).limit(limit))


def find_begun(context: StepContext, throttle: Throttle) -> WaitingMessages:
    """Return the messages to submit of a cancelled campaign: those that the gateway may have."""
    condition = may_be_in_gateway()
    query = sa.select(sa.func.count()).where(is_of_message_in(messages, context.batch), condition)
    with context.database.read() as connection:
        count = connection.scalar(query) or 0
    ready_at = context.now() if throttle.keeps_to_instants else None
    return WaitingMessages(count, ready_at, condition)


def _is_retry_due(campaign: Campaign) -> sa.ColumnElement[bool]:
    """Return the condition that a soft-bounced message may be submitted again."""
    if not campaign.retry_after:
        return sa.true()
    return retry_due_time(campaign) <= campaign.clock.now()
