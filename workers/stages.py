"""What each step does to a batch.

Plain functions, without Celery: read the messages that are in the status the step serves, decide
outside any transaction that writes, then have the journal move them. A step that finds nothing to
do does nothing, so each may be repeated. It returns what the batch needs next.
"""

import logging
import random
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from operator import itemgetter

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker import engagement
from tracker.catalog import Batch, Campaign
from tracker.clock import MICROSECOND, Instant, to_datetime
from tracker.database import Database
from tracker.expectations import Expected, expect, expect_not_before, outlook
from tracker.journal import QUEUED, Author, Entry, Move, State, entry
from tracker.receipts import Receipt, apply
from tracker.schema import customers, messages, steps, tallies, transitions
from tracker.status import Channel, Reason, Status, Step
from workers import allowance
from workers.candidates import gather
from workers.checks.base import STEPS, Check, judge
from workers.gateways.base import Delivered, Gateway, Submission
from workers.handlers import find_handler
from workers.services import ServiceName, Services, ask
from workers.throttle import Throttle

logger = logging.getLogger(__name__)

RECEIPT_POLL = timedelta(seconds=1)
"""How long to let a gateway be before asking again. Real time: it bounds the load of asking."""

LONGEST_WAIT = timedelta(minutes=1)
"""How long a task may wait at a worker. Real time."""

JITTER = 0.25
"""By what share a wait that a gateway asked for is varied, so that not all come back at once."""

READY = State(status=Status.ABOUT_TO_BE_SENT)


@dataclass(frozen=True)
class Following:
    """The step that a batch needs next, and how long to wait before it."""

    step: Step
    wait: timedelta = timedelta()


def judge_batch(
    database: Database,
    batch: Batch,
    step: Step,
    checks: Sequence[Check],
    services: Services,
    by: Author,
    *,
    last_try: bool = False,
) -> None:
    """Stop the queued messages that one of the checks speaks against.

    Raises :exc:`workers.services.ServiceUnavailable`, but on the ``last_try``.
    """
    started_at = batch.campaign.clock.now()
    with database.read() as connection:
        numbers = _queued(connection, batch)
    candidates = gather(
        database, batch.campaign, numbers, step, services, started_at, last_try=last_try
    )
    verdicts = judge(candidates, checks, to_datetime(started_at))
    for name, count in verdicts.broken.items():
        logger.error(
            "check %s raised for %d messages of %s, batch %d",
            *(name, count, batch.campaign.name, batch.batch),
            exc_info=verdicts.errors[name],
        )
    with entry(database, batch, step, by, started_at=started_at) as written:
        for reason, stopped in verdicts.stopped.items():
            _stop(written, stopped, reason, started_at)


def _queued(connection: Connection, batch: Batch) -> Sequence[int]:
    return connection.scalars(
        sa.select(messages.c.number)
        .where(*_of_batch(batch), messages.c.status == Status.QUEUED)
        .order_by(messages.c.number)
    ).all()


def dispatch(
    database: Database, batch: Batch, services: Services, by: Author, *, last_try: bool = False
) -> Following:
    """Hand over what passed every check, as far as limits and the organization's credit go.

    Raises :exc:`workers.services.ServiceUnavailable`, but on the ``last_try``.
    """
    campaign = batch.campaign
    started_at = campaign.clock.now()
    unchecked = _missing_check(database, batch)
    if unchecked is not None:
        return Following(unchecked)
    unready, why = _unready(database, batch, services, last_try)
    organization = campaign.organization
    with entry(database, batch, Step.DISPATCH, by, started_at=started_at) as written:
        # Read within the entry, so that the allowance is counted for exactly those who use it.
        numbers = _queued(written.connection, batch)
        credit = None
        if organization.credit is not None or organization.message_limit is not None:
            credit = allowance.lock(written.connection, organization.id)
        if organization.message_limit is not None:
            had = allowance.recent(written.connection, database, campaign, numbers, started_at)
            limited = {each for each, count in had.items() if count >= organization.message_limit}
            _stop(written, sorted(limited), Reason.MESSAGE_LIMIT, started_at)
            numbers = [number for number in numbers if number not in limited]
        if unready:
            _stop(written, [each for each in numbers if each in unready], why, started_at)
            numbers = [number for number in numbers if number not in unready]
        if credit is not None:
            _stop(written, numbers[credit:], Reason.OUT_OF_CREDIT, started_at)
            numbers = numbers[:credit]
            allowance.take_credit(written.connection, organization.id, len(numbers))
        written.move(Move(numbers=numbers, source=QUEUED, target=READY, at=started_at))
    return Following(Step.SUBMIT)


def _unready(
    database: Database, batch: Batch, services: Services, last_try: bool
) -> tuple[Collection[int], Reason]:
    """Queued messages that nobody could prepare, and why."""
    with database.read() as connection:
        numbers = _queued(connection, batch)
    if find_handler(batch.campaign.kind) is None:
        return frozenset(numbers), Reason.HANDLER_NOT_FOUND
    said = ask(services, ServiceName.HANDLER, batch.campaign, numbers, last_try=last_try)
    return said.failed, Reason.TIMEOUT


def _missing_check(database: Database, batch: Batch) -> Step | None:
    """The first step that has not judged the batch yet: nobody is handed over unchecked."""
    done = _done(database, batch)
    return next((step for step in STEPS if step not in done), None)


def _done(database: Database, batch: Batch) -> set[str]:
    """The steps that are on record for a batch."""
    query = sa.select(steps.c.step).where(
        steps.c.campaign_id == batch.campaign.id, steps.c.batch == batch.batch
    )
    with database.read() as connection:
        return set(connection.scalars(query))


def submit(
    database: Database, batch: Batch, gateway: Gateway, throttle: Throttle, by: Author
) -> Following | None:
    """Offer the gateway what waits for it: first attempts, and those that bounced softly.

    Only as much as its rate allows at the moment: the rest of a batch comes back later, and keeps
    no worker waiting.
    """
    campaign = batch.campaign
    started_at = campaign.clock.now()
    waiting = _waiting(database, batch)
    wanted = sum(len(submission.numbers) for _, submission in waiting)
    if not wanted:
        return following(database, batch)
    grant = throttle.take(batch, wanted)
    handed = 0
    accepted: list[Move] = []
    receipts: list[Receipt] = []
    wait = grant.wait
    for source, submission in _no_more_than(grant.messages, waiting):
        target = State(status=Status.IN_GATEWAY, attempt=submission.attempt)
        handover = gateway.submit(submission, campaign.clock.now())
        for at, numbers in handover.accepted.items():
            accepted.append(Move(numbers=numbers, source=source, target=target, at=at))
            handed += len(numbers)
        receipts += handover.receipts
        wait = max(wait, handover.wait * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
    if accepted:
        with entry(database, batch, Step.SUBMIT, by, started_at=started_at) as written:
            for move in accepted:
                written.move(move)
            apply(written, receipts)
            expect(written, Expected.RECEIPTS, started_at)
    if handed == wanted:
        return Following(Step.DELIVER)
    if _has_been_left_alone(database, batch):
        return Following(Step.DELIVER)
    return Following(Step.SUBMIT, wait)


def _no_more_than(
    most: int, waiting: Sequence[tuple[State, Submission]]
) -> Iterator[tuple[State, Submission]]:
    """The first ``most`` messages of what waits."""
    for source, submission in waiting:
        if most <= 0:
            return
        yield source, submission.first(most)
        most -= len(submission.numbers)


def _has_been_left_alone(database: Database, batch: Batch) -> bool:
    """Whether receipts may have been there for a while: a batch that is handed over bit by bit
    does not let them wait for its end."""
    with database.read() as connection:
        due = outlook(connection, batch).receipts_due_at
    campaign = batch.campaign
    patience = int(RECEIPT_POLL / MICROSECOND * campaign.speed)
    return due is not None and due + patience <= campaign.clock.now()


def _waiting(database: Database, batch: Batch) -> list[tuple[State, Submission]]:
    campaign = batch.campaign
    recipient = customers.c.email if campaign.channel is Channel.EMAIL else customers.c.mobile_e164
    waiting = sa.select(messages.c.status, messages.c.attempt, messages.c.number).where(
        *_of_batch(batch),
        sa.or_(
            messages.c.status == Status.ABOUT_TO_BE_SENT,
            sa.and_(
                messages.c.status == Status.SOFT_BOUNCED,
                messages.c.attempt < campaign.attempts,
                _has_rested(campaign),
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
                database.among(customers.c.number, everyone),
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


def _bounced_softly_at() -> sa.ScalarSelect[Instant]:
    """When a message came into its last soft bounce."""
    return (
        sa.select(transitions.c.at)
        .where(
            transitions.c.campaign_id == messages.c.campaign_id,
            transitions.c.status == Status.SOFT_BOUNCED,
            transitions.c.attempt == messages.c.attempt,
            transitions.c.number == messages.c.number,
        )
        .correlate(messages)
        .scalar_subquery()
    )


def _has_rested(campaign: Campaign) -> sa.ColumnElement[bool]:
    """Whether it is time to offer a message again that bounced softly."""
    if not campaign.retry_after:
        return sa.true()
    return _bounced_softly_at() <= campaign.clock.now() - campaign.retry_after


def _next_attempt_at(connection: Connection, batch: Batch) -> Instant | None:
    """When the first message that bounced softly is to be offered again."""
    first: Instant | None = connection.scalar(
        sa.select(sa.func.min(_bounced_softly_at())).where(
            *_of_batch(batch),
            messages.c.status == Status.SOFT_BOUNCED,
            messages.c.attempt < batch.campaign.attempts,
        )
    )
    return None if first is None else first + batch.campaign.retry_after


def deliver(database: Database, batch: Batch, gateway: Gateway, by: Author) -> Following | None:
    """Take the receipts that are out, and see what the batch still waits for."""
    started_at = batch.campaign.clock.now()
    with database.read() as connection:
        known = outlook(connection, batch)
        awaited = _awaited(connection, batch)
    if awaited or known.receipts_due_at is not None:
        news = gateway.receipts(batch, awaited, started_at)
        if news.items or news.again != known.receipts_due_at:
            with entry(database, batch, Step.DELIVER, by, started_at=started_at) as written:
                apply(written, news.items)
                expect_not_before(written, Expected.RECEIPTS, news.again, as_of=known.as_of)
    return following(database, batch, Step.DELIVER)


def _awaited(connection: Connection, batch: Batch) -> Mapping[int, Sequence[int]]:
    """The messages that are in the gateway, by their attempt."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    query = sa.select(messages.c.attempt, messages.c.number).where(
        *_of_batch(batch), messages.c.status == Status.IN_GATEWAY
    )
    for attempt, number in connection.execute(query.order_by(messages.c.number)):
        found[attempt].append(number)
    return found


def engage(database: Database, batch: Batch, gateway: Gateway, by: Author) -> Following | None:
    """Record what recipients did with their messages since this was done last."""
    started_at = batch.campaign.clock.now()
    with database.read() as connection:
        known = outlook(connection, batch)
        delivered = _delivered(connection, batch)
    since = known.engagement_due_at
    if since is not None:
        news = gateway.engagement(batch, delivered, since, started_at)
        with entry(database, batch, Step.ENGAGE, by, started_at=started_at) as written:
            engagement.record(written, news.items)
            expect_not_before(written, Expected.ENGAGEMENT, news.again, as_of=known.as_of)
    return following(database, batch, Step.ENGAGE)


def _delivered(connection: Connection, batch: Batch) -> Delivered:
    query = sa.select(transitions.c.number, transitions.c.at).where(
        transitions.c.campaign_id == batch.campaign.id,
        transitions.c.status == Status.DELIVERED,
        transitions.c.attempt.in_(range(1, batch.campaign.attempts + 1)),
        transitions.c.number.between(batch.first, batch.last),
    )
    rows = connection.execute(query.order_by(transitions.c.number)).all()
    return Delivered([number for number, _ in rows], [at for _, at in rows])


def following(database: Database, batch: Batch, done: Step | None = None) -> Following | None:
    """What a batch needs next, from what the record says of it; None if it expects nothing more.

    ``done`` is the step that was just done: the gateway is not asked the same without end.
    """
    query = sa.select(tallies.c.status, tallies.c.attempt).where(
        tallies.c.campaign_id == batch.campaign.id,
        tallies.c.batch == batch.batch,
        tallies.c.messages > 0,
    )
    with database.read() as connection:
        held = {(Status(status), attempt) for status, attempt in connection.execute(query)}
        known = outlook(connection, batch)
        waits_for_attempt = any(
            status is Status.SOFT_BOUNCED and attempt < batch.campaign.attempts
            for status, attempt in held
        )
        next_attempt_at = None
        if waits_for_attempt and batch.campaign.retry_after:
            next_attempt_at = _next_attempt_at(connection, batch)
    statuses = {status for status, _ in held}
    if Status.QUEUED in statuses:
        return Following(Step.SUPPRESS)
    if Status.ABOUT_TO_BE_SENT in statuses or (waits_for_attempt and next_attempt_at is None):
        return Following(Step.SUBMIT)
    dues = [
        (due, step)
        for due, step in (
            (next_attempt_at, Step.SUBMIT),
            (known.receipts_due_at, Step.DELIVER),
            (known.engagement_due_at, Step.ENGAGE),
        )
        if due is not None
    ]
    if not dues:
        return None
    due, step = min(dues, key=itemgetter(0))
    left = (due - batch.campaign.clock.now()) / batch.campaign.speed * MICROSECOND
    asked_already = done is step or (done, step) == (Step.ENGAGE, Step.DELIVER)
    least = RECEIPT_POLL if asked_already else timedelta()
    return Following(step, min(max(left, least), LONGEST_WAIT))


def _of_batch(batch: Batch) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        messages.c.campaign_id == batch.campaign.id,
        messages.c.number.between(batch.first, batch.last),
    )


def _stop(written: Entry, numbers: Sequence[int], reason: Reason, at: Instant) -> None:
    target = State(status=Status.NOT_SENT, reason=reason)
    written.move(Move(numbers=numbers, source=QUEUED, target=target, at=at))
