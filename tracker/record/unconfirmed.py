"""Messages that were handed over to a gateway and got no reply.

They are in the gateway, with the detail UNCONFIRMED on that transition, until a receipt or a person
reports their outcome. After a time they count as not delivered. A batch has their number and the
earliest of these times. A batch without such messages costs one statement without effect.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.errors import UsageError
from tracker.record.catalog import Batch, Campaign, load_batch
from tracker.record.details import TransitionDetail
from tracker.record.journal import Entry
from tracker.record.predicates import (
    is_of_batch,
    is_of_message_in,
    is_of_recorded_batch,
    is_same_transition,
)
from tracker.status import Status
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages, transition_details, transitions

UNCONFIRMED = "unconfirmed"
"""Detail of the transition of a message that was handed over without a reply."""


def unconfirmed_details(numbers: Collection[int]) -> dict[int, TransitionDetail]:
    """Return the details of the transitions of messages that were handed over without a reply."""
    return dict.fromkeys(numbers, TransitionDetail(text=UNCONFIRMED))


def is_unconfirmed() -> sa.ColumnElement[bool]:
    """Return the SQL condition that a row of `messages` is in the gateway without a reply."""
    details = transition_details.c
    return sa.and_(
        messages.c.status == Status.IN_GATEWAY,
        sa.exists()
        .where(is_same_transition(transition_details, messages), details.detail == UNCONFIRMED)
        .correlate(messages),
    )


def select_unconfirmed(*columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Return a query for unconfirmed messages, with the transitions that made them so."""
    details = transition_details.c
    return (
        sa.select(*columns)
        .select_from(transition_details)
        .join(messages, is_same_transition(messages, transition_details))
        .join(transitions, is_same_transition(transitions, transition_details))
        .where(details.status == Status.IN_GATEWAY, details.detail == UNCONFIRMED)
    )


def update_unconfirmed_batch(entry: Entry, *, has_new: bool = False) -> None:
    """Bring the number of unconfirmed messages in a batch's row up to date.

    Without new ones, a batch that has none isn't changed.
    """
    of_batch = (
        select_unconfirmed().where(is_of_recorded_batch(transition_details)).correlate(batches)
    )
    first_at = of_batch.with_only_columns(sa.func.min(transitions.c.at)).scalar_subquery()
    entry.connection.execute(
        sa.update(batches)
        .where(
            is_of_batch(batches, entry.batch), sa.true() if has_new else batches.c.unconfirmed > 0
        )
        .values(
            unconfirmed=of_batch.with_only_columns(sa.func.count()).scalar_subquery(),
            unconfirmed_due_at=first_at + entry.batch.campaign.unconfirmed_after,
        )
    )


def read_expired(connection: Connection, batch: Batch, now: Instant) -> Sequence[tuple[int, int]]:
    """Return number and attempt of a batch's messages that have waited too long for a receipt."""
    query = select_unconfirmed(messages.c.number, messages.c.attempt).where(
        is_of_message_in(transition_details, batch),
        transitions.c.at <= now - batch.campaign.unconfirmed_after,
    )
    return [(number, attempt) for number, attempt in connection.execute(query)]


def describe_expiry(campaign: Campaign) -> str:
    """Return the detail of a message that counts as not delivered because no receipt came."""
    return f"no reply and no receipt within {timedelta(microseconds=campaign.unconfirmed_after)}"


def load_batch_of_unconfirmed(
    connection: Connection, campaign: Campaign, number: int
) -> tuple[Batch, int]:
    """Return the batch and the attempt of an unconfirmed message.

    Raises:
        UsageError: the message is not unconfirmed.
    """
    wanted = sa.literal(number, sa.BigInteger)  # a person may type any number
    query = (
        sa.select(batches.c.batch, messages.c.attempt, messages.c.status, is_unconfirmed())
        .join(batches, is_of_recorded_batch(messages))
        .where(messages.c.campaign_id == campaign.id, messages.c.number == wanted)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UsageError(f"campaign {campaign.name}: no message {number} is recorded")
    batch, attempt, status, is_waiting = row
    if not is_waiting:
        raise UsageError(
            f"campaign {campaign.name}: message {number} is {Status(status).slug}; expected a"
            " message in the gateway that is unconfirmed"
        )
    return load_batch(connection, campaign.id, batch), attempt
