"""Read what the record said of an audience's customers at an earlier instant.

Bounce counts and opt-outs are recorded as of now. Transitions and engagement say which of them came
later. A change is known from the instant at which it was recorded, which may be later than the
event itself. For opt-outs the record holds no such instant, so it is estimated from the steps.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.record.catalog import Campaign
from tracker.record.customers.same_address import read_recipients
from tracker.record.predicates import is_of_recorded_batch
from tracker.status import OPT_OUTS, Engagement, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.engagement import engagements
from tracker.store.schema.messages import transitions
from tracker.store.schema.work import steps


class CustomerBounces(NamedTuple):
    """The hard and soft bounces of a customer on a channel."""

    hard: int
    soft: int


class _Outcome(NamedTuple):
    recorded_at: Instant
    status: Status


class _OptOut(NamedTuple):
    recorded_at: Instant
    is_spam: bool


class _Dispatch(NamedTuple):
    recorded_at: Instant
    at: Instant
    withdrawn_at: Instant | None


@dataclass(frozen=True)
class CustomerHistory:
    """Events of a campaign's customers on its channel, by customer number.

    Each list is in the order of recording.
    """

    outcomes: Mapping[int, Sequence[_Outcome]] = field(default_factory=dict)
    opt_outs: Mapping[int, Sequence[_OptOut]] = field(default_factory=dict)

    def bounces_at(self, number: int, now: CustomerBounces, instant: Instant) -> CustomerBounces:
        """Return a customer's bounces at an earlier instant, given those of `now`.

        Soft bounces before the first recorded delivery aren't counted: it has reset them.
        """
        outcomes = self.outcomes.get(number)
        if not outcomes:
            return now
        statuses = [outcome.status for outcome in outcomes]
        hard = now.hard - sum(
            outcome.status is Status.HARD_BOUNCED
            for outcome in outcomes
            if outcome.recorded_at > instant
        )
        soft = 0
        if Status.DELIVERED not in statuses:
            soft = now.soft - statuses.count(Status.SOFT_BOUNCED)
        for outcome in outcomes:
            if outcome.recorded_at > instant:
                break
            if outcome.status is Status.SOFT_BOUNCED:
                soft += 1
            elif outcome.status is Status.DELIVERED:
                soft = 0
        return CustomerBounces(max(0, hard), max(0, soft))

    def had_opted_out(self, number: int, instant: Instant) -> bool:
        """Return whether a customer who has opted out by now had done so at an instant."""
        opt_outs = self.opt_outs.get(number)
        return not opt_outs or opt_outs[0].recorded_at <= instant

    def had_marked_spam(self, number: int, instant: Instant) -> bool:
        """Return whether a customer who has marked spam by now had done so at an instant."""
        marks = [event for event in self.opt_outs.get(number, ()) if event.is_spam]
        return not marks or marks[0].recorded_at <= instant


def read_customer_history(
    connection: Connection, database: Database, campaign: Campaign, numbers: Sequence[int]
) -> CustomerHistory:
    """Return what happened to some customers in all campaigns on the campaign's channel."""
    recipients = read_recipients(connection, database, campaign, numbers)
    siblings = [
        *recipients.find_siblings(connection, channel=campaign.channel, including_itself=True)
    ]
    outcomes: defaultdict[int, list[_Outcome]] = defaultdict(list)
    opt_outs: defaultdict[int, list[_OptOut]] = defaultdict(list)
    for sibling in siblings:
        bounced = _outcomes_query(
            database,
            sibling.id,
            Status.HARD_BOUNCED,
            range(1, sibling.attempts + 1),
            sibling.numbers,
        ).union_all(
            _outcomes_query(
                database, sibling.id, Status.SOFT_BOUNCED, [sibling.attempts], sibling.numbers
            )
        )
        for sent, status, recorded_at in connection.execute(bounced):
            for number in sibling.find_customers(sent):
                outcomes[number].append(_Outcome(recorded_at, Status(status)))
        opted_out = _opt_outs_query(database, sibling.id, sibling.numbers)
        for sent, is_spam, recorded_at in connection.execute(opted_out):
            for number in sibling.find_customers(sent):
                opt_outs[number].append(_OptOut(recorded_at, is_spam))
    softly = {
        number
        for number, events in outcomes.items()
        if any(event.status is Status.SOFT_BOUNCED for event in events)
    }
    for sibling in siblings if softly else ():
        sent_to_them = [
            sent for sent in sibling.numbers if not softly.isdisjoint(sibling.find_customers(sent))
        ]
        delivered = _outcomes_query(
            database, sibling.id, Status.DELIVERED, range(1, sibling.attempts + 1), sent_to_them
        )
        for sent, status, recorded_at in connection.execute(delivered):
            for number in softly.intersection(sibling.find_customers(sent)):
                outcomes[number].append(_Outcome(recorded_at, Status(status)))
    return CustomerHistory(
        {number: sorted(events) for number, events in outcomes.items()},
        {number: sorted(events) for number, events in opt_outs.items()},
    )


def _outcomes_query(
    database: Database,
    campaign_id: int,
    status: Status,
    attempts: Sequence[int],
    numbers: Sequence[int],
) -> "sa.Select[Any]":
    return (
        sa.select(transitions.c.number, transitions.c.status, steps.c.finished_at)
        .join(steps, steps.c.id == transitions.c.step_id)
        .where(
            transitions.c.campaign_id == campaign_id,
            transitions.c.status == status,
            transitions.c.attempt.in_(attempts),
            database.in_list(transitions.c.number, numbers),
        )
    )


def _opt_outs_query(
    database: Database, campaign_id: int, numbers: Sequence[int]
) -> "sa.Select[Any]":
    """Return a query for opt-outs, and about when they were recorded.

    An engagement event has no step. So this is the end of the batch's first step `engage` that
    ended after the event. If that step asked the gateway before the event, a later step recorded
    the opt-out. The inbound API records one a moment before that step.
    """
    recorded_at = (
        sa.select(sa.func.min(steps.c.finished_at))
        .where(
            steps.c.campaign_id == campaign_id,
            steps.c.batch == batches.c.batch,
            steps.c.step == Step.ENGAGE,
            steps.c.finished_at >= engagements.c.at,
        )
        .scalar_subquery()
    )
    return (
        sa.select(
            engagements.c.number,
            engagements.c.kind == Engagement.SPAM,
            sa.func.coalesce(recorded_at, engagements.c.at),
        )
        .join(batches, is_of_recorded_batch(engagements))
        .where(
            engagements.c.campaign_id == campaign_id,
            engagements.c.kind.in_(OPT_OUTS),
            database.in_list(engagements.c.number, numbers),
        )
    )


@dataclass(frozen=True)
class DispatchHistory:
    """The messages of other campaigns to customers of an audience and to their addresses."""

    dispatches: Mapping[int, Sequence[_Dispatch]]
    period: int
    """Microseconds of the message limit's period."""

    def count_recent(self, number: int, now: Instant, known_at: Instant) -> int:
        """Return the recent messages to a customer `now`, as the record knew them at an instant."""
        return sum(
            dispatch.recorded_at <= known_at
            and dispatch.at > now - self.period
            and (dispatch.withdrawn_at is None or dispatch.withdrawn_at > known_at)
            for dispatch in self.dispatches.get(number, ())
        )


def read_dispatch_history(
    connection: Connection,
    database: Database,
    campaign: Campaign,
    numbers: Sequence[int],
    period: int,
) -> DispatchHistory:
    """Return the messages that other campaigns dispatched to some customers and their addresses."""
    recipients = read_recipients(connection, database, campaign, numbers)
    dispatches: defaultdict[int, list[_Dispatch]] = defaultdict(list)
    ended, ending_steps = transitions.alias("ended"), steps.alias("ending_steps")
    for sibling in recipients.find_siblings(connection):
        query = (
            sa.select(
                transitions.c.number,
                steps.c.finished_at,
                transitions.c.at,
                ending_steps.c.finished_at,
            )
            .join(steps, steps.c.id == transitions.c.step_id)
            .outerjoin(
                ended,
                sa.and_(
                    ended.c.campaign_id == sibling.id,
                    ended.c.status == Status.NOT_SENT,
                    ended.c.attempt == 0,
                    ended.c.number == transitions.c.number,
                ),
            )
            .outerjoin(ending_steps, ending_steps.c.id == ended.c.step_id)
            .where(
                transitions.c.campaign_id == sibling.id,
                transitions.c.status == Status.ABOUT_TO_BE_SENT,
                transitions.c.attempt == 0,
                database.in_list(transitions.c.number, sibling.numbers),
            )
        )
        for sent, *values in connection.execute(query):
            for number in sibling.find_customers(sent):
                dispatches[number].append(_Dispatch(*values))
    return DispatchHistory(dispatches, period)
