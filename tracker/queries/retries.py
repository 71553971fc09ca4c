"""The pause before a soft-bounced message is submitted again."""

from datetime import timedelta

import sqlalchemy as sa

from tracker.clock import Instant, to_microseconds
from tracker.record.catalog import Campaign
from tracker.record.predicates import is_same_message
from tracker.status import Status
from tracker.store.schema.messages import messages, transitions

MAX_RETRY_PAUSE = timedelta(hours=4)
"""Longest pause before a soft-bounced message is submitted again, unless the first is longer."""


def compute_retry_pause(campaign: Campaign, attempt: int) -> int:
    """Return the microseconds between a soft bounce on an attempt and the next attempt.

    They double with each attempt, up to MAX_RETRY_PAUSE.
    """
    doubled = campaign.retry_after << min(attempt - 1, 30)
    return min(doubled, max(campaign.retry_after, to_microseconds(MAX_RETRY_PAUSE)))


def retry_pause(campaign: Campaign) -> sa.ColumnElement[int]:
    """Return the SQL expression for the pause after the soft bounce of a row of `messages`."""
    last = max(1, campaign.attempts - 1)
    pauses = {attempt: compute_retry_pause(campaign, attempt) for attempt in range(1, last + 1)}
    growing = {attempt: pause for attempt, pause in pauses.items() if pause < pauses[last]}
    longest = sa.literal(pauses[last], sa.BigInteger)
    if not growing:
        return longest
    return sa.case(
        {attempt: sa.literal(pause, sa.BigInteger) for attempt, pause in growing.items()},
        value=messages.c.attempt,
        else_=longest,
    )


def retry_due_time(campaign: Campaign) -> sa.ColumnElement[Instant]:
    """Return the SQL expression for when a soft-bounced row of `messages` is submitted again."""
    bounced_at = (
        sa.select(transitions.c.at)
        .where(
            is_same_message(transitions, messages),
            transitions.c.status == Status.SOFT_BOUNCED,
            transitions.c.attempt == messages.c.attempt,
        )
        .correlate(messages)
        .scalar_subquery()
    )
    return bounced_at + retry_pause(campaign)
