"""The steps in which workers and gateways deal with each other: hand over, receipts, engagement.

Plain functions, without Celery, as those of :mod:`workers.steps.before_gateway` are.
"""

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.queries.next_step import (
    NextStep,
    batch_conditions,
    next_step,
    next_step_while_throttled,
    soft_bounce_time,
)
from tracker.record import engagement, inbound
from tracker.record.catalog import Batch, Campaign
from tracker.record.due import DueKind, mark_due, read_due_times, replace_due_time
from tracker.record.journal import Author, Entry, Move, State, open_entry
from tracker.record.receipts import Receipt, apply_receipts, record_unknown_receipts
from tracker.status import Channel, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from tracker.store.schema.messages import messages, transitions
from workers.gateways.base import DeliveredMessages, Gateway, GatewayUnavailable, Submission
from workers.gateways.throttle import Throttle

MAX_SUBMIT_SECONDS = 20.0
"""Seconds after which a step offers no more: a step has 60. The rest comes back at once."""

JITTER = 0.25
"""By what share a wait that a gateway asked for is varied, so that not all come back at once."""


def submit(
    database: Database, batch: Batch, gateway: Gateway, throttle: Throttle, author: Author
) -> NextStep | None:
    """Offer the gateway what waits for it: first attempts, and those that bounced softly.

    Only as much as its rate allows at the moment: the rest of a batch comes back later, and keeps
    no worker waiting.
    """
    campaign = batch.campaign
    started_at = campaign.clock.now()
    waiting = _load_submissions(database, batch)
    wanted = sum(len(submission.numbers) for _, submission in waiting)
    if not wanted:
        return next_step(database, batch)
    grant = throttle.acquire(batch, wanted)
    began, handed = time.monotonic(), 0
    accepted: list[Move] = []
    receipts: list[Receipt] = []
    delay = grant.delay
    for source, submission in _limit_submissions(grant.messages, waiting):
        if time.monotonic() - began > MAX_SUBMIT_SECONDS:
            break
        target = State(status=Status.IN_GATEWAY, attempt=submission.attempt)
        try:
            handover = gateway.submit(submission, campaign.clock.now())
        except GatewayUnavailable:
            if not accepted:
                raise
            break  # what was handed over before that is written down first
        for at, numbers in handover.accepted.items():
            accepted.append(Move(numbers=numbers, source=source, target=target, at=at))
            handed += len(numbers)
        receipts += handover.receipts
        if grant.messages >= wanted:  # else its turn comes anyway, and others need not wait
            delay = max(delay, handover.delay * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
    if accepted:
        with open_entry(database, batch, Step.SUBMIT, author, started_at=started_at) as written:
            for move in accepted:
                written.move(move)
            apply_receipts(written, receipts)
            mark_due(written, DueKind.RECEIPTS, started_at)
    if handed == wanted:
        return NextStep(Step.DELIVER)
    return next_step_while_throttled(database, batch, submit_delay=delay)


def _limit_submissions(
    most: int, waiting: Sequence[tuple[State, Submission]]
) -> Iterator[tuple[State, Submission]]:
    """The first ``most`` messages of what waits."""
    for source, submission in waiting:
        if most <= 0:
            return
        yield source, submission.truncated(most)
        most -= len(submission.numbers)


def _load_submissions(database: Database, batch: Batch) -> list[tuple[State, Submission]]:
    campaign = batch.campaign
    recipient = customers.c.email if campaign.channel is Channel.EMAIL else customers.c.mobile_e164
    waiting = sa.select(messages.c.status, messages.c.attempt, messages.c.number).where(
        *batch_conditions(batch),
        sa.or_(
            messages.c.status == Status.ABOUT_TO_BE_SENT,
            sa.and_(
                messages.c.status == Status.SOFT_BOUNCED,
                messages.c.attempt < campaign.attempts,
                _is_retry_due(campaign),
            ),
        ),
    )
    with database.read() as connection:
        rows = connection.execute(waiting.order_by(messages.c.number)).all()
        everyone = [number for _, _, number in rows]
        recipients = connection.scalars(
            sa.select(recipient)
            .where(
                customers.c.audience_id == campaign.audience_id,
                database.in_list(customers.c.number, everyone),
            )
            .order_by(customers.c.number)
        ).all()
    groups: defaultdict[tuple[int, int], tuple[list[int], list[str]]]
    groups = defaultdict(lambda: ([], []))
    for (status, attempt, number), address in zip(rows, recipients, strict=True):
        numbers, addresses = groups[status, attempt]
        numbers.append(number)
        addresses.append(address)
    return [
        (
            State(status=Status(status), attempt=attempt),
            Submission(
                campaign=campaign, attempt=attempt + 1, numbers=numbers, recipients=addresses
            ),
        )
        for (status, attempt), (numbers, addresses) in groups.items()
    ]


def _is_retry_due(campaign: Campaign) -> sa.ColumnElement[bool]:
    """Whether it is time to offer a message again that bounced softly."""
    if not campaign.retry_after:
        return sa.true()
    return soft_bounce_time() <= campaign.clock.now() - campaign.retry_after


def deliver(database: Database, batch: Batch, gateway: Gateway, author: Author) -> NextStep | None:
    """Take the receipts that are out, and see what the batch still waits for."""
    started_at = batch.campaign.clock.now()
    with database.read() as connection:
        known = read_due_times(connection, batch)
        awaited = _load_awaited_numbers(connection, batch)
        reported = inbound.has_unapplied_reports(connection, batch, DueKind.RECEIPTS)
    if awaited or known.receipts_due_at is not None:
        news = gateway.receipts(batch, awaited, started_at)
        # All up to now was told, whatever the gateway says of when there is more.
        again = None if news.next_poll_at is None else max(news.next_poll_at, started_at + 1)
        if news.items or again != known.receipts_due_at or reported:
            with open_entry(
                database, batch, Step.DELIVER, author, started_at=started_at
            ) as written:
                told = inbound.claim_reports(written, DueKind.RECEIPTS)
                early = apply_receipts(written, [*news.items, *told.received_at])
                replace_due_time(written, DueKind.RECEIPTS, again, last_step_id=known.last_step_id)
                _store_early_receipts(written, told, early)
    return next_step(database, batch, completed=Step.DELIVER)


def _store_early_receipts(
    written: Entry, told: inbound.ClaimedReports, early: Sequence[Receipt]
) -> None:
    """Keep receipts that were reported before we knew of the attempt, as long as that may be why.
    Those that the gateway was asked for come again by themselves."""
    reported = [receipt for receipt in early if receipt in told.received_at]
    waiting = [receipt for receipt in reported if told.can_wait(receipt)]
    inbound.release_items(written, DueKind.RECEIPTS, told, waiting)
    record_unknown_receipts(
        written, [receipt for receipt in reported if not told.can_wait(receipt)]
    )


def _load_awaited_numbers(connection: Connection, batch: Batch) -> Mapping[int, Sequence[int]]:
    """The messages that are in the gateway, by their attempt."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    query = sa.select(messages.c.attempt, messages.c.number).where(
        *batch_conditions(batch), messages.c.status == Status.IN_GATEWAY
    )
    for attempt, number in connection.execute(query.order_by(messages.c.number)):
        found[attempt].append(number)
    return found


def engage(database: Database, batch: Batch, gateway: Gateway, author: Author) -> NextStep | None:
    """Record what recipients did with their messages since this was done last."""
    started_at = batch.campaign.clock.now()
    with database.read() as connection:
        known = read_due_times(connection, batch)
        delivered = _load_delivered_messages(connection, batch)
        reported = inbound.has_unapplied_reports(connection, batch, DueKind.ENGAGEMENT)
    since = known.engagement_due_at
    if since is not None:
        news = gateway.engagement(batch, delivered, since, started_at)
        if news.items or news.next_poll_at != since or reported:
            with open_entry(database, batch, Step.ENGAGE, author, started_at=started_at) as written:
                told = inbound.claim_reports(written, DueKind.ENGAGEMENT)
                reached = set(delivered.numbers) if told.received_at else set[int]()
                counting = [event for event in told.received_at if event.number in reached]
                engagement.record_engagement(written, [*news.items, *counting])
                replace_due_time(
                    written, DueKind.ENGAGEMENT, news.next_poll_at, last_step_id=known.last_step_id
                )
                # Nobody reads what did not arrive; that it did may be written down a little later.
                rest = [event for event in told.received_at if event.number not in reached]
                waiting = [event for event in rest if told.can_wait(event)]
                inbound.release_items(written, DueKind.ENGAGEMENT, told, waiting)
    return next_step(database, batch, completed=Step.ENGAGE)


def _load_delivered_messages(connection: Connection, batch: Batch) -> DeliveredMessages:
    query = sa.select(transitions.c.number, transitions.c.at).where(
        transitions.c.campaign_id == batch.campaign.id,
        transitions.c.status == Status.DELIVERED,
        transitions.c.attempt.in_(range(1, batch.campaign.attempts + 1)),
        transitions.c.number.between(batch.first, batch.last),
    )
    rows = connection.execute(query.order_by(transitions.c.number)).all()
    return DeliveredMessages([number for number, _ in rows], [at for _, at in rows])
