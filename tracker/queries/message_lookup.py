"""Find a message by its number, its customer, or its recipient's address."""

import re
from collections.abc import Sequence
from difflib import get_close_matches

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.errors import NotFound
from tracker.queries.campaign_state import read_origins
from tracker.record.catalog import Campaign
from tracker.store.schema.catalog import audiences, customers
from tracker.store.schema.integers import MAX_INTEGER
from tracker.store.schema.messages import messages
from tracker.text import join_with_or

MAX_NUMBER_DIGITS = len(str(MAX_INTEGER))

MAX_EXAMPLES = 5
"""Messages that an error names where several have the same recipient."""

MAX_COMPARED_IDS = 10_000
"""Customer ids that are compared with an unknown one, to suggest similar ones."""

MAX_IDS_PER_QUERY = 1_000
"""Customers that one query looks up in the index of their ids."""


def check_message_exists(connection: Connection, campaign: Campaign, number: int) -> object:
    """Return the recorded attempt of a message.

    Raises:
        NotFound: the campaign has no such message; the error names the range of numbers.
    """
    attempt = _read_attempt(connection, campaign, number)
    if attempt is None:
        raise NotFound(_describe_missing_message(connection, campaign, number))
    return attempt


def _read_attempt(connection: Connection, campaign: Campaign, number: int) -> object:
    """Return the recorded attempt of a message, None if the campaign has no such message."""
    if not 0 <= number <= MAX_INTEGER:
        return None
    query = sa.select(messages.c.attempt).where(
        messages.c.campaign_id == campaign.id, messages.c.number == number
    )
    return connection.scalar(query)


def _describe_missing_message(connection: Connection, campaign: Campaign, number: int) -> str:
    last = connection.scalar(
        sa.select(sa.func.max(messages.c.number)).where(messages.c.campaign_id == campaign.id)
    )
    size = connection.scalar(
        sa.select(audiences.c.size).where(audiences.c.id == campaign.audience_id)
    )
    if 0 <= number < (size or 0):
        [origin] = read_origins(connection, [campaign])
        return (
            f"message {number} of campaign {campaign.name} is scheduled, not queued;"
            f" run {campaign.run_id} is {origin.state}"
        )
    expected = "it has none yet" if last is None else f"expected 0 to {last:,}"
    return f"campaign {campaign.name} has no message {number}; {expected}"


def find_message_number(connection: Connection, campaign: Campaign, text: str) -> int:
    """Return the number of the message that a text identifies.

    Digits are a message number if the campaign has that message. Otherwise the text is a customer's
    id, or else an email address or a mobile number, as recorded or in E.164.

    Raises:
        NotFound: no message matches, or several have the same address; the error names them.
    """
    is_number = re.fullmatch(f"-?[0-9]{{1,{MAX_NUMBER_DIGITS}}}", text) is not None
    if is_number and _read_attempt(connection, campaign, int(text)) is not None:
        return int(text)
    number = _find_single_recipient(connection, campaign, text)
    if number is not None:
        check_message_exists(connection, campaign, number)
        return number
    if is_number:
        raise NotFound(_describe_missing_message(connection, campaign, int(text)))
    raise NotFound(
        f"campaign {campaign.name} has no message to {text!r};"
        " expected a message number, a customer id, an email address or a mobile number"
    )


def find_number_by_recipient(connection: Connection, campaign: Campaign, text: str) -> int:
    """Return the number of the message to a customer, by the customer's id or address.

    Raises:
        NotFound: no customer has it; the error suggests similar ids. Or several customers have the
            same address; the error names their messages.
    """
    number = _find_single_recipient(connection, campaign, text)
    if number is not None:
        return number
    ids_with_prefix = connection.scalars(
        sa.select(customers.c.customer_id)
        .where(
            customers.c.audience_id == campaign.audience_id,
            customers.c.customer_id.startswith(text[:2], autoescape=True),
        )
        .limit(MAX_COMPARED_IDS)
    ).all()
    similar = get_close_matches(text, ids_with_prefix, n=3)
    hint = f"; did you mean {join_with_or(similar)}?" if similar else ""
    raise NotFound(f"campaign {campaign.name} has no customer {text!r}{hint}")


def _find_single_recipient(connection: Connection, campaign: Campaign, text: str) -> int | None:
    """Return the number of the only customer with an id or an address; None if no customer has it.

    Raises:
        NotFound: several customers have the address; the error names their messages.
    """
    recipients = recipient_numbers(connection, campaign, text).order_by(customers.c.number)
    numbers = connection.scalars(recipients.limit(MAX_EXAMPLES + 1)).all()
    if len(numbers) > 1:
        examples = ", ".join(map(str, numbers[:MAX_EXAMPLES]))
        others = " and others" if len(numbers) > MAX_EXAMPLES else ""
        raise NotFound(
            f"campaign {campaign.name} has several messages to {text}: {examples}{others};"
            " expected one of these numbers"
        )
    return numbers[0] if numbers else None


def recipient_numbers(connection: Connection, campaign: Campaign, text: str) -> sa.Select[int]:
    """Return the query for the numbers of the customer with an id, or else of all with an address.

    SQLite's `lower` leaves letters beyond ASCII as they are, so the exact address counts too.
    """
    numbers = sa.select(customers.c.number).where(customers.c.audience_id == campaign.audience_id)
    by_id = numbers.where(customers.c.customer_id == text)
    if connection.scalar(by_id) is not None:
        return by_id
    return numbers.where(
        sa.or_(
            customers.c.email == text,
            sa.func.lower(customers.c.email) == text.lower(),
            customers.c.mobile == text,
            customers.c.mobile_e164 == text,
        )
    )


def find_numbers_by_customer(
    connection: Connection, audience_id: int, customer_ids: Sequence[str]
) -> dict[str, int]:
    """Return the numbers of an audience's customers by their ids, without unknown ids."""
    numbers: dict[str, int] = {}
    for first in range(0, len(customer_ids), MAX_IDS_PER_QUERY):
        query = sa.select(customers.c.customer_id, customers.c.number).where(
            customers.c.customer_id.in_(customer_ids[first : first + MAX_IDS_PER_QUERY]),
            customers.c.audience_id == audience_id,
        )
        numbers.update(connection.execute(query).all())
    return numbers


def find_customers_by_number(
    connection: Connection, audience_id: int, numbers: Sequence[int]
) -> dict[int, str]:
    """Return the ids of a few customers of an audience by their numbers."""
    query = sa.select(customers.c.number, customers.c.customer_id).where(
        customers.c.audience_id == audience_id, customers.c.number.in_(numbers)
    )
    return dict(connection.execute(query).all())
