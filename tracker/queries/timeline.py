"""Read the timeline of one message.

It has each change of the message's status with its author, what the recipient did, and the receipts
that were refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from tracker.campaign_states import CampaignState
from tracker.clock import to_datetime
from tracker.queries.campaign_state import Origin, read_origins
from tracker.queries.message_lookup import check_message_exists
from tracker.record.catalog import Campaign
from tracker.record.deferrals import Deferral, read_deferral
from tracker.status import Engagement, Reason, ReceiptVerdict, Status, Step
from tracker.store.schema.catalog import batches, customers
from tracker.store.schema.engagement import engagements
from tracker.store.schema.messages import refused_receipts, transition_details, transitions
from tracker.store.schema.work import parts, steps

MAX_ATTEMPTS = 1_000
"""Attempts that are looked for, whatever a damaged row says."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TimelineEvent:
    """A change of a message's status.

    What isn't recorded, or holds a value that sendtrace doesn't write, is None, so that the rest of
    a damaged record can still be read.

    Attributes:
        at: when it happened.
        recorded_at: when it was recorded.
        check: the check that blocked the message, where its reason doesn't say which.
        detail: the error or the text of that check, or what the gateway reported.
    """

    at: datetime | None
    recorded_at: datetime | None
    status: Status
    reason: Reason | None
    attempt: int
    step: Step | None
    worker: str | None
    task_id: str | None
    check: str | None = None
    detail: str | None = None

    @property
    def note(self) -> str | None:
        """The detail in words, with its origin."""
        if self.status is not Status.NOT_SENT:
            return None if self.detail is None else f"gateway: {self.detail}"
        check = None if self.check is None else f"check {self.check}"
        return ": ".join(text for text in (check, self.detail) if text) or None

    def as_json(self) -> dict[str, Any]:
        """Return the event as other programs read it; the keys are a contract."""
        return {
            "at": self.at and self.at.isoformat(),
            "recorded_at": self.recorded_at and self.recorded_at.isoformat(),
            "status": self.status.slug,
            "reason": self.reason and self.reason.slug,
            "attempt": self.attempt,
            "step": self.step and self.step.value,
            "worker": self.worker,
            "task_id": self.task_id,
            "check": self.check,
            "detail": self.detail,
        }


@dataclass(frozen=True, kw_only=True)
class RecipientAction:
    """An action of the recipient; its time is None if the recorded one can't be read."""

    at: datetime | None
    kind: Engagement

    def as_json(self) -> dict[str, Any]:
        """Return the action as other programs read it; the keys are a contract."""
        return {"at": self.at and self.at.isoformat(), "kind": self.kind.slug}


@dataclass(frozen=True, kw_only=True)
class RefusedReceipt:
    """A receipt that changed nothing, and the reason why.

    Attributes:
        at: when the attempt ended, by the gateway's clock; None if that can't be read.
        status: the reported status; None if sendtrace doesn't know it.
    """

    at: datetime | None
    status: Status | None
    attempt: int
    verdict: ReceiptVerdict

    def as_json(self) -> dict[str, Any]:
        """Return the receipt as other programs read it; the keys are a contract."""
        return {
            "at": self.at and self.at.isoformat(),
            "status": self.status and self.status.slug,
            "attempt": self.attempt,
            "verdict": self.verdict.value,
        }


@dataclass(frozen=True, kw_only=True)
class StepFailure:
    """The step that a poison message failed in every try, and the last known error."""

    step: Step | None
    error: str


TimelineEntry = TimelineEvent | RecipientAction | RefusedReceipt


@dataclass(frozen=True, kw_only=True)
class MessageTimeline:
    """The timeline of one message.

    Attributes:
        origin: the campaign, its state and the time of the timeline.
        events: changes of the status, in the order of attempt and status.
        actions: what the recipient did, in the order of time.
        refused_receipts: receipts that changed nothing, in the order of time.
        failure: the failure that stopped the message, if one did.
        deferral: what the message waits for, if a check deferred it.
    """

    origin: Origin
    number: int
    customer_id: str
    batch: int | None
    events: tuple[TimelineEvent, ...]
    actions: tuple[RecipientAction, ...] = ()
    refused_receipts: tuple[RefusedReceipt, ...] = ()
    failure: StepFailure | None = None
    deferral: Deferral | None = None

    @property
    def is_receipt_missing(self) -> bool:
        """True if the run is finished and the gateway hasn't reported an outcome."""
        is_in_gateway = bool(self.events) and self.events[-1].status is Status.IN_GATEWAY
        return is_in_gateway and self.origin.state is CampaignState.FINISHED

    @property
    def deferred_until(self) -> datetime | None:
        """The time at which the message is judged again; None without a readable one."""
        until = None if self.deferral is None else self.deferral.until
        return _parse_or_none(to_datetime, until)

    def entries(self) -> list[TimelineEntry]:
        """Return events, actions and refused receipts together, in the order of time.

        What happened at the same time stays in this order, and so does what has no readable time.
        """
        entries: list[TimelineEntry] = list(self.events)
        others: list[TimelineEntry] = [*self.actions, *self.refused_receipts]
        for entry in others:
            position = len(entries)
            if entry.at is not None:
                while position and _is_later(entries[position - 1], entry.at):
                    position -= 1
            entries.insert(position, entry)
        return entries

    def as_json(self) -> dict[str, Any]:
        """Return the timeline as other programs read it; the keys are a contract."""
        until = self.deferred_until
        return {
            **self.origin.as_json(),
            "number": self.number,
            "customer_id": self.customer_id,
            "batch": self.batch,
            "events": [event.as_json() for event in self.events],
            "engagement": [action.as_json() for action in self.actions],
            "refused_receipts": [receipt.as_json() for receipt in self.refused_receipts],
            "receipt_missing": self.is_receipt_missing,
            "deferred": self.deferral
            and {"until": until and until.isoformat(), "check": self.deferral.check_name},
            "broke": self.failure and {"step": self.failure.step, "error": self.failure.error},
        }


def _is_later(entry: TimelineEntry, at: datetime) -> bool:
    return entry.at is not None and entry.at > at


def read_timeline(connection: Connection, campaign: Campaign, number: int) -> MessageTimeline:
    """Return the timeline of a message; see `check_message_exists` for unknown numbers."""
    attempt = check_message_exists(connection, campaign, number)
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
    recorded = attempt if isinstance(attempt, int) else 0  # a damaged row may hold any value
    last_attempt = min(max(recorded, campaign.attempts), MAX_ATTEMPTS)
    [origin] = read_origins(connection, [campaign])
    return MessageTimeline(
        origin=origin,
        number=number,
        customer_id=customer_id or "",
        batch=batch,
        events=_read_events(connection, campaign, number, last_attempt),
        actions=_read_actions(connection, campaign, number),
        refused_receipts=_read_refused_receipts(connection, campaign, number),
        failure=None if batch is None else _read_failure(connection, campaign, batch, number),
        deferral=None if batch is None else read_deferral(connection, campaign, batch, number),
    )


def _read_events(
    connection: Connection, campaign: Campaign, number: int, last_attempt: int
) -> tuple[TimelineEvent, ...]:
    key = ("campaign_id", "number", "attempt", "status")
    has_detail = sa.and_(*(transition_details.c[column] == transitions.c[column] for column in key))
    query = (
        sa.select(
            transitions,
            steps.c.step,
            steps.c.worker,
            steps.c.task_id,
            steps.c.finished_at,
            transition_details.c.check_name,
            transition_details.c.detail,
        )
        .outerjoin(steps, steps.c.id == transitions.c.step_id)
        .outerjoin(transition_details, has_detail)
        .where(
            # Every status and attempt is named, so that each is one look-up in the primary key.
            transitions.c.campaign_id == campaign.id,
            transitions.c.status.in_(Status),
            transitions.c.attempt.in_(range(last_attempt + 1)),
            transitions.c.number == number,
        )
        .order_by(transitions.c.attempt, transitions.c.status)
    )
    return tuple(_event_from_row(row) for row in connection.execute(query))


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
        check=row.check_name,
        detail=row.detail,
    )


def _read_actions(
    connection: Connection, campaign: Campaign, number: int
) -> tuple[RecipientAction, ...]:
    query = (
        sa.select(engagements.c.at, engagements.c.kind)
        .where(
            engagements.c.campaign_id == campaign.id,
            engagements.c.kind.in_(Engagement),
            engagements.c.number == number,
        )
        .order_by(engagements.c.at, engagements.c.kind)
    )
    return tuple(
        RecipientAction(at=_parse_or_none(to_datetime, at), kind=Engagement(kind))
        for at, kind in connection.execute(query)
    )


def _read_refused_receipts(
    connection: Connection, campaign: Campaign, number: int
) -> tuple[RefusedReceipt, ...]:
    refused = refused_receipts.c
    query = (
        sa.select(refused.at, refused.status, refused.attempt, refused.verdict)
        .where(refused.campaign_id == campaign.id, refused.number == number)
        .order_by(refused.at, refused.attempt, refused.copy)
    )
    return tuple(
        RefusedReceipt(
            at=_parse_or_none(to_datetime, row.at),
            status=_parse_or_none(Status, row.status),
            attempt=row.attempt,
            verdict=ReceiptVerdict(row.verdict),
        )
        for row in connection.execute(query)
    )


def _read_failure(
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
    if row is None:
        return None
    return StepFailure(step=_parse_or_none(Step, row.step), error=row.error or "")


def _parse_or_none(parse: Callable[[Any], T], value: object) -> T | None:
    """Return a parsed value, or None if it is null or can't be parsed."""
    try:
        return None if value is None else parse(value)
    except (ValueError, TypeError, OverflowError):
        return None
