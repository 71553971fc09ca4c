"""The steps that exchange messages with a gateway: submit, deliver and engage.

Plain functions without Celery, like those of `workers.steps.before_gateway`. What the batch needs
next is read from the record, except where a function returns it.
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.queries.batch_states import read_numbers_in_status
from tracker.queries.next_step import NextStep, next_step_while_throttled
from tracker.record import allowance, engagement, inbound
from tracker.record.actions.cancellation import cancel_batch, cancel_messages
from tracker.record.catalog import Batch
from tracker.record.details import TransitionDetail
from tracker.record.due import DueKind, mark_due, read_due_times, replace_due_time
from tracker.record.journal import Entry, Move, State
from tracker.record.predicates import is_of_message_in
from tracker.record.receipts import (
    Receipt,
    Receipts,
    apply_receipts,
    record_refused_receipts,
)
from tracker.record.unconfirmed import (
    describe_expiry,
    read_expired,
    unconfirmed_details,
    update_unconfirmed_batch,
)
from tracker.status import OPT_OUTS, Channel, Reason, ReceiptVerdict, Status, Step
from tracker.store.arrays import read_columns, read_texts
from tracker.store.columns import as_sequence
from tracker.store.schema.catalog import customers
from tracker.store.schema.messages import transitions
from workers.gateways.base import (
    DeliveredMessages,
    Gateway,
    GatewayUnavailable,
    Submission,
    SubmissionResult,
)
from workers.gateways.throttle import Grant, Throttle
from workers.steps.context import StepContext
from workers.steps.offers import NotedOffers
from workers.steps.refusals import Refusals
from workers.steps.waiting import WaitingMessages, find_begun, find_waiting, read_waiting_numbers

MAX_SUBMIT_SECONDS = 20.0
"""Seconds after which a step submits no more, out of the 60 that it has. The rest is submitted by
the next task."""

JITTER = 0.25
"""Share by which a delay that a gateway asks for varies, so batches don't return all at once."""


def submit(context: StepContext, gateway: Gateway, throttle: Throttle) -> NextStep | None:
    """Submit as many waiting messages as the gateway's rate allows at the moment.

    Of a cancelled campaign, it submits only what the gateway may have, and cancels the rest.

    Returns the next step while messages are left, since the record doesn't know the gateway's rate.
    Raises `GatewayUnavailable` if nothing was accepted.
    """
    started_at = context.now()
    is_cancelled = context.campaign.cancelled_at is not None
    waiting = (find_begun if is_cancelled else find_waiting)(context, throttle)
    wanted = waiting.messages
    if not wanted:
        if is_cancelled:
            cancel_batch(context.database, context.batch, context.author)
        return None
    grant = throttle.acquire(context.batch, wanted, waiting.ready_at)
    # A gateway that keeps to no instants may refuse messages; the step then offers it others.
    limit = grant.messages if throttle.keeps_to_instants else wanted
    submissions = _load_submissions(context, waiting, limit)
    offers = NotedOffers(context)
    try:
        moves, receipts, delay, failed = _submit_granted(
            context, gateway, submissions, grant, wanted, offers
        )
    except GatewayUnavailable:
        offers.delete()
        raise
    if moves or failed or is_cancelled:
        with context.entry(Step.SUBMIT, started_at=started_at) as written:
            offers.delete(written.connection)
            _record_answers(context, written, moves, receipts, failed)
            mark_due(written, DueKind.RECEIPTS, started_at)
    else:
        offers.delete()
    if sum(len(move.numbers) for move in moves) + len(failed) == wanted:
        return None
    return next_step_while_throttled(context.database, context.batch, submit_delay=delay)


def _record_answers(
    context: StepContext,
    written: Entry,
    moves: Sequence[Move],
    receipts: Sequence[Receipt],
    failed: Mapping[int, str],
) -> None:
    """Record what a gateway said about messages, and cancel the rest of a cancelled campaign."""
    for move in moves:
        written.move(move)
    # These lock the organization, which all transactions lock before customers.
    _block_failed_messages(context, written, failed)
    if context.campaign.cancelled_at is not None:
        cancel_messages(written)
    apply_receipts(written, receipts)
    if any(move.details for move in moves):
        update_unconfirmed_batch(written, has_new=True)


def _block_failed_messages(context: StepContext, written: Entry, failed: Mapping[int, str]) -> None:
    """Mark messages that couldn't be made as Not Sent, and refund the credit for them."""
    details = {number: TransitionDetail(text=error) for number, error in failed.items()}
    moved = written.move(
        Move(
            numbers=[*failed],
            source=State(status=Status.ABOUT_TO_BE_SENT),
            target=State(status=Status.NOT_SENT, reason=Reason.STEP_FAILED),
            at=context.now(),
            details=details,
        )
    )
    allowance.refund_credit(context.database, written.connection, context.campaign, moved)


def _submit_granted(
    context: StepContext,
    gateway: Gateway,
    submissions: Sequence[tuple[State, Submission]],
    grant: Grant,
    wanted: int,
    noted: NotedOffers,
) -> tuple[list[Move], list[Receipt], timedelta, dict[int, str]]:
    """Submit as many messages as are granted, out of those that the batch wants to submit.

    Returns:
        The moves of accepted messages, receipts that came at once, the time until the gateway
        accepts more, and the errors of messages that couldn't be made.
    """
    began = time.monotonic()
    delay = grant.delay
    moves: list[Move] = []
    receipts: list[Receipt] = []
    failed: dict[int, str] = {}
    refusals = Refusals(context)
    offers = _Offers(submissions, grant.messages, grant.instants(context.campaign.clock))
    for source, submission in offers:
        if time.monotonic() - began > MAX_SUBMIT_SECONDS or refusals.is_gateway_refusing:
            break
        if not noted.note(submission):
            break
        try:
            result = gateway.submit(submission, context.now())
        except GatewayUnavailable:
            if not moves and not failed:
                raise
            break  # what the gateway has accepted must be recorded first
        move = _make_move(source, submission.attempt, result, context.now())
        if move.numbers:
            moves.append(move)
        receipts += result.receipts
        failed.update(result.failed)
        refusals.add(source, result)
        offers.limit += len(result.refused) + len(result.failed)
        if grant.messages >= wanted:  # otherwise the throttle's delay is enough for the gateway
            jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  # no secret
            delay = max(delay, result.delay * jitter)
    bounced, bounces = refusals.bounce(is_all=refusals.count == wanted - len(failed))
    moves += bounced
    if not moves and not failed:
        refusals.raise_if_refused()
    return moves, receipts + bounces, delay, failed


def _make_move(source: State, attempt: int, result: SubmissionResult, returned_at: Instant) -> Move:
    """Return the move of the messages that a gateway accepted on an attempt."""
    numbers, at = result.acceptances(returned_at)
    return Move(
        numbers=numbers,
        source=source,
        target=State(status=Status.IN_GATEWAY, attempt=attempt),
        at=at,
        details=unconfirmed_details(result.unconfirmed),
    )


class _Offers:
    """The first messages of some submissions, as many as a limit allows.

    The limit may be raised while they are offered, since a refused message uses none of the rate.
    Each message is offered with its instant, if the grant has instants.
    """

    def __init__(
        self,
        submissions: Sequence[tuple[State, Submission]],
        limit: int,
        instants: NDArray[np.int64] | None,
    ) -> None:
        self._submissions = submissions
        self._instants = instants
        self.limit = limit

    def __iter__(self) -> Iterator[tuple[State, Submission]]:
        for source, submission in self._submissions:
            rest = submission
            while rest.numbers and self.limit > 0:
                offered, rest = rest.split(self.limit)
                self.limit -= len(offered.numbers)
                yield source, self._add_instants(offered)

    def _add_instants(self, offered: Submission) -> Submission:
        """Return messages with the next instants, if there are any."""
        if self._instants is None:
            return offered
        accept_at, self._instants = np.split(self._instants, [len(offered.numbers)])
        return replace(offered, accept_at=accept_at)


def _load_submissions(
    context: StepContext, waiting: WaitingMessages, limit: int
) -> list[tuple[State, Submission]]:
    """Return the first waiting messages to offer to the gateway, by the state that they are in."""
    campaign = context.campaign
    recipient = customers.c.email if campaign.channel is Channel.EMAIL else customers.c.mobile_e164
    submissions = []
    with context.database.read() as connection:
        by_state = read_waiting_numbers(connection, context.batch, waiting, limit)
        for (status, attempt), numbers in by_state.items():
            addresses = sa.select(recipient).where(
                customers.c.audience_id == campaign.audience_id,
                context.database.in_list(customers.c.number, numbers),
            )
            submission = Submission(
                campaign=campaign,
                attempt=attempt + 1,
                numbers=numbers,
                recipients=read_texts(connection, addresses.order_by(customers.c.number)),
            )
            if context.unavailable_count:  # the first messages may be the cause
                submission = submission.rotated(random.randrange(len(numbers)))  # noqa: S311
            submissions.append((State(status=Status(status), attempt=attempt), submission))
    return submissions


def deliver(context: StepContext, gateway: Gateway) -> None:
    """Poll the gateway for receipts, and apply them with those that it has reported itself."""
    started_at = context.now()
    with context.database.read() as connection:
        due_times = read_due_times(connection, context.batch)
        awaited = read_numbers_in_status(connection, context.batch, Status.IN_GATEWAY)
        has_reports = inbound.has_unapplied_reports(connection, context.batch, DueKind.RECEIPTS)
    if not awaited and due_times.receipts_due_at is None:
        return
    poll = gateway.receipts(context.batch, awaited, started_at)
    # The gateway has said everything up to now, whatever it says about when there is more.
    next_poll_at = None if poll.next_poll_at is None else max(poll.next_poll_at, started_at + 1)
    is_expiry_due = due_times.is_unconfirmed_due(started_at)
    if poll.items or next_poll_at != due_times.receipts_due_at or has_reports or is_expiry_due:
        with context.entry(Step.DELIVER, started_at=started_at) as written:
            reports = inbound.claim_reports(written, DueKind.RECEIPTS)
            early = apply_receipts(written, Receipts.of(poll.items, reports.received_at.keys()))
            if is_expiry_due:
                apply_receipts(written, _make_expired_receipts(written, started_at))
            replace_due_time(
                written, DueKind.RECEIPTS, next_poll_at, last_step_id=due_times.last_step_id
            )
            _release_early_receipts(written, reports, early)


def _make_expired_receipts(entry: Entry, now: Instant) -> Sequence[Receipt]:
    """Return receipts that give up the messages whose receipt hasn't come in time."""
    detail = describe_expiry(entry.batch.campaign)
    return [
        Receipt(number, attempt, Status.NOT_DELIVERED, now, detail=detail)
        for number, attempt in read_expired(entry.connection, entry.batch, now)
    ]


def _release_early_receipts(
    written: Entry, reports: inbound.ClaimedReports, early: Sequence[Receipt]
) -> None:
    """Keep reported receipts of unrecorded attempts, until they have waited too long.

    Polled receipts aren't kept: the gateway returns them again.
    """
    reported = [receipt for receipt in early if receipt in reports.received_at]
    waiting = [receipt for receipt in reported if reports.can_wait(receipt)]
    inbound.release_items(written, DueKind.RECEIPTS, reports, waiting)
    expired = [receipt for receipt in reported if not reports.can_wait(receipt)]
    record_refused_receipts(written, expired, ReceiptVerdict.UNKNOWN)


def engage(context: StepContext, gateway: Gateway) -> None:
    """Poll the gateway for engagement since the last poll, and record it with reported events."""
    started_at = context.now()
    with context.database.read() as connection:
        due_times = read_due_times(connection, context.batch)
        delivered = _load_delivered_messages(connection, context.batch)
        has_reports = inbound.has_unapplied_reports(connection, context.batch, DueKind.ENGAGEMENT)
    since = due_times.engagement_due_at
    if since is None:
        return
    poll = gateway.engagement(context.batch, delivered, since, started_at)
    if poll.items or poll.next_poll_at != since or has_reports:
        with context.entry(Step.ENGAGE, started_at=started_at) as written:
            reports = inbound.claim_reports(written, DueKind.ENGAGEMENT, poll.items)
            reached = set(delivered.numbers)
            events = [
                event
                for event in reports.received_at
                if event.number in reached or event.kind in OPT_OUTS
            ]
            engagement.record_engagement(written, events)
            replace_due_time(
                written, DueKind.ENGAGEMENT, poll.next_poll_at, last_step_id=due_times.last_step_id
            )
            # A receipt may be recorded later than the engagement that follows it.
            early = reports.received_at.keys() - events
            waiting = [event for event in early if reports.can_wait(event)]
            inbound.release_items(written, DueKind.ENGAGEMENT, reports, waiting)


def _load_delivered_messages(connection: Connection, batch: Batch) -> DeliveredMessages:
    """Return the delivered messages of a batch, and when each was delivered."""
    query = sa.select(transitions.c.number, transitions.c.at).where(
        is_of_message_in(transitions, batch),
        transitions.c.status == Status.DELIVERED,
        transitions.c.attempt.in_(range(1, batch.campaign.attempts + 1)),
    )
    numbers, delivered_at = read_columns(connection, query)
    order = np.argsort(numbers)
    return DeliveredMessages(as_sequence(numbers[order]), delivered_at[order].tolist())
