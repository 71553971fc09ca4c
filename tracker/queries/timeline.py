"""The story of one message: every transition, with who made it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from tracker.clock import to_datetime
from tracker.errors import NotFound
from tracker.record.catalog import Campaign
from tracker.status import Reason, Status, Step
from tracker.store.schema.catalog import batches, customers
from tracker.store.schema.messages import messages, transition_details, transitions
from tracker.store.schema.work import parts, steps

MAX_NUMBER = 2**31 - 1
"""The largest number that the column holds; a person may type any."""


MAX_ATTEMPTS = 1_000
"""As many are looked for, whatever a row says."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TimelineEvent:
    """A change of a message's status. ``at`` is when it happened, ``recorded_at`` when we knew,
    ``detail`` what else the gateway said.

    What is not on record, or says what no journal writes, is None: a story is told as far as it is
    known.
    """

    at: datetime | None
    recorded_at: datetime | None
    status: Status
    reason: Reason | None
    attempt: int
    step: Step | None
    worker: str | None
    task_id: str | None
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class StepFailure:
    """A step that a message broke every time it was tried, and the error that is known of it."""

    step: Step | None
    error: str


@dataclass(frozen=True, kw_only=True)
class MessageTimeline:
    """What happened to one message, in order; and which step it ``broke``, if it did."""

    campaign: Campaign
    number: int
    customer_id: str
    batch: int | None
    events: tuple[TimelineEvent, ...]
    broke: StepFailure | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "campaign": self.campaign.name,
            "run": self.campaign.run_id,
            "number": self.number,
            "customer_id": self.customer_id,
            "batch": self.batch,
            "events": [
                {
                    "at": event.at and event.at.isoformat(),
                    "recorded_at": event.recorded_at and event.recorded_at.isoformat(),
                    "status": event.status.slug,
                    "reason": event.reason and event.reason.slug,
                    "attempt": event.attempt,
                    "step": event.step and event.step.value,
                    "worker": event.worker,
                    "task_id": event.task_id,
                    "detail": event.detail,
                }
                for event in self.events
            ],
            "broke": self.broke and {"step": self.broke.step, "error": self.broke.error},
        }


def check_message_exists(connection: Connection, campaign: Campaign, number: int) -> int:
    """Return the attempt of a message, or raise `NotFound` with the existing numbers."""
    attempt: int | None = None
    if 0 <= number <= MAX_NUMBER:
        attempt = connection.scalar(
            sa.select(messages.c.attempt).where(
                messages.c.campaign_id == campaign.id, messages.c.number == number
            )
        )
    if attempt is None:
        raise NotFound(_not_found_message(connection, campaign, number))
    return attempt


def read_timeline(connection: Connection, campaign: Campaign, number: int) -> MessageTimeline:
    """The story of message ``number``; :exc:`NotFound`, with the numbers that there are."""
    attempt = check_message_exists(connection, campaign, number)
    # Every status and attempt is named, so that each is one look into the primary key.
    rows = connection.execute(
        sa.select(
            transitions,
            steps.c.step,
            steps.c.worker,
            steps.c.task_id,
            steps.c.finished_at,
            transition_details.c.detail,
        )
        .outerjoin(steps, steps.c.id == transitions.c.step_id)
        .outerjoin(transition_details, _transition_join_condition())
        .where(
            transitions.c.campaign_id == campaign.id,
            transitions.c.status.in_(Status),
            transitions.c.attempt.in_(range(_last_attempt(campaign, attempt) + 1)),
            transitions.c.number == number,
        )
        .order_by(transitions.c.attempt, transitions.c.status)
    )
    customer_id = connection.scalar(
        sa.select(customers.c.customer_id).where(
            customers.c.audience_id == campaign.audience_id, customers.c.number == number
        )
    )
    batch = connection.scalar(
        sa.select(batches.c.batch).where(
            batches.c.campaign_id == campaign.id,
            batches.c.first <= number,
            batches.c.first + batches.c.size > number,
        )
    )
    return MessageTimeline(
        campaign=campaign,
        number=number,
        customer_id=customer_id or "",
        batch=batch,
        events=tuple(_event_from_row(row) for row in rows),
        broke=None if batch is None else _read_step_failure(connection, campaign, batch, number),
    )


def _read_step_failure(
    connection: Connection, campaign: Campaign, batch: int, number: int
) -> StepFailure | None:
    row = connection.execute(
        sa.select(parts.c.step, parts.c.error).where(
            parts.c.campaign_id == campaign.id,
            parts.c.batch == batch,
            parts.c.first == number,
            parts.c.ended_at.is_not(None),
        )
    ).first()
    return (
        None
        if row is None
        else StepFailure(step=_parse_or_none(Step, row.step), error=row.error or "")
    )


def _transition_join_condition() -> sa.ColumnElement[bool]:
    key = ("campaign_id", "number", "attempt", "status")
    return sa.and_(*(transition_details.c[each] == transitions.c[each] for each in key))


def _last_attempt(campaign: Campaign, attempt: object) -> int:
    """The last attempt to look for; the message itself may say anything."""
    said = attempt if isinstance(attempt, int) else 0
    return min(max(said, campaign.attempts), MAX_ATTEMPTS)


def _event_from_row(row: Row[Any]) -> TimelineEvent:
    return TimelineEvent(
        at=_parse_or_none(to_datetime, row.at),
        recorded_at=_parse_or_none(to_datetime, row.finished_at),
        status=Status(row.status),
        reason=_parse_or_none(Reason, row.reason),
        attempt=row.attempt,
        step=_parse_or_none(Step, row.step),
        worker=row.worker,
        task_id=row.task_id,
        detail=row.detail,
    )


def _parse_or_none(read: Callable[[Any], T], value: object) -> T | None:
    """What ``value`` means, None if it means nothing."""
    try:
        return None if value is None else read(value)
    except (ValueError, TypeError, OverflowError):
        return None


def _not_found_message(connection: Connection, campaign: Campaign, number: int) -> str:
    last = connection.scalar(
        sa.select(sa.func.max(messages.c.number)).where(messages.c.campaign_id == campaign.id)
    )
    there = "it has none yet" if last is None else f"expected 0 to {last:,}"
    return f"campaign {campaign.name} has no message {number}; {there}"
