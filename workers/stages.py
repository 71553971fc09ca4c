"""What each step does to a batch.

Plain functions, without Celery: read the messages that are in the status the step serves, decide
outside any transaction that writes, then have the journal move them. A step that finds nothing to
do does nothing, so each may be repeated. It returns what the batch needs next.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker import engagement
from tracker.bounces import note_outcome
from tracker.catalog import Batch
from tracker.clock import Instant, to_datetime
from tracker.database import Database
from tracker.journal import QUEUED, Author, Entry, Move, State, entry
from tracker.schema import customers, messages, steps, tallies
from tracker.status import LEGAL, Channel, Reason, Status, Step
from workers import allowance
from workers.candidates import gather
from workers.checks.base import STEPS, Check, judge
from workers.gateways.base import Gateway, Receipt, Submission
from workers.handlers import find_handler
from workers.services import ServiceName, Services, ask

logger = logging.getLogger(__name__)

RECEIPT_POLL = timedelta(seconds=1)
"""How long to let a gateway be before asking again. Real time: it bounds the load of asking."""

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


def submit(database: Database, batch: Batch, gateway: Gateway, by: Author) -> Following:
    """Give the gateway what waits for it: first attempts, and those that bounced softly."""
    campaign = batch.campaign
    started_at = campaign.clock.now()
    accepted: list[Move] = []
    for source, submission in _waiting(database, batch):
        target = State(status=Status.IN_GATEWAY, attempt=submission.attempt)
        for at, numbers in gateway.submit(submission, campaign.clock.now()).items():
            accepted.append(Move(numbers=numbers, source=source, target=target, at=at))
    with entry(database, batch, Step.SUBMIT, by, started_at=started_at) as written:
        for move in accepted:
            written.move(move)
    return Following(Step.DELIVER)


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


def deliver(database: Database, batch: Batch, gateway: Gateway, by: Author) -> Following | None:
    """Take the receipts that are due, and see what the batch still waits for."""
    clock = batch.campaign.clock
    started_at = clock.now()
    with database.read() as connection:
        attempts = dict(
            connection.execute(
                sa.select(messages.c.number, messages.c.attempt).where(
                    *_of_batch(batch), messages.c.status == Status.IN_GATEWAY
                )
            ).all()
        )
    if attempts:
        receipts = gateway.receipts(batch.campaign, list(attempts), clock.now())
        moves = _moves_of(receipts, attempts)
        if moves:
            with entry(database, batch, Step.DELIVER, by, started_at=started_at) as written:
                for move in moves:
                    moved = written.move(move)
                    if moved:
                        note_outcome(written, move.target.status, move.target.attempt, moved)
    return following(database, batch)


def _moves_of(receipts: Sequence[Receipt], attempts: dict[int, int]) -> list[Move]:
    """Receipts that count: for the attempt that is in the gateway, with a legal outcome."""
    groups: defaultdict[tuple[int, Status], dict[int, Instant]] = defaultdict(dict)
    for number, attempt, status, at in receipts:
        if attempts.get(number) == attempt:
            groups[attempt, status].setdefault(number, at)
    return [
        Move(
            numbers=list(group),
            source=State(status=Status.IN_GATEWAY, attempt=attempt),
            target=State(status=status, attempt=attempt),
            at=list(group.values()),
        )
        for (attempt, status), group in groups.items()
        if status in LEGAL[Status.IN_GATEWAY]
    ]


def engage(database: Database, batch: Batch, gateway: Gateway, by: Author) -> None:
    """Record what the recipients of a batch did with their messages."""
    campaign = batch.campaign
    started_at = campaign.clock.now()
    with database.read() as connection:
        delivered = connection.scalars(
            sa.select(messages.c.number).where(
                *_of_batch(batch), messages.c.status == Status.DELIVERED
            )
        ).all()
    events = gateway.engagement(campaign, delivered, started_at)
    with entry(database, batch, Step.ENGAGE, by, started_at=started_at) as written:
        engagement.record(written, events)


def following(database: Database, batch: Batch) -> Following | None:
    """What a batch needs next, from what the record says of it; None if all of it is settled."""
    query = sa.select(tallies.c.status, tallies.c.attempt).where(
        tallies.c.campaign_id == batch.campaign.id,
        tallies.c.batch == batch.batch,
        tallies.c.messages > 0,
    )
    with database.read() as connection:
        held = {(Status(status), attempt) for status, attempt in connection.execute(query)}
    statuses = {status for status, _ in held}
    waits_for_attempt = any(
        status is Status.SOFT_BOUNCED and attempt < batch.campaign.attempts
        for status, attempt in held
    )
    if Status.QUEUED in statuses:
        return Following(Step.SUPPRESS)
    if Status.ABOUT_TO_BE_SENT in statuses or waits_for_attempt:
        return Following(Step.SUBMIT)
    if Status.IN_GATEWAY in statuses:
        return Following(Step.DELIVER, RECEIPT_POLL)
    if Status.DELIVERED in statuses and batch.campaign.tracks_engagement:
        return None if Step.ENGAGE in _done(database, batch) else Following(Step.ENGAGE)
    return None


def _of_batch(batch: Batch) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        messages.c.campaign_id == batch.campaign.id,
        messages.c.number.between(batch.first, batch.last),
    )


def _stop(written: Entry, numbers: Sequence[int], reason: Reason, at: Instant) -> None:
    target = State(status=Status.NOT_SENT, reason=reason)
    written.move(Move(numbers=numbers, source=QUEUED, target=target, at=at))
