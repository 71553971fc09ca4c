"""What the steps before the gateway do to a batch.

Plain functions, without Celery: read the messages that are in the status the step serves, decide
outside any transaction that writes, then have the journal move them. A step that finds nothing to
do does nothing, so each may be repeated. It returns what the batch needs next.
"""

import logging
from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_datetime
from tracker.queries.next_step import NextStep, batch_conditions
from tracker.record import allowance
from tracker.record.catalog import Batch
from tracker.record.journal import QUEUED_STATE, Author, Entry, Move, State, open_entry
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.messages import messages
from tracker.store.schema.work import steps
from workers.candidates import load_candidates
from workers.checks.base import CHECK_STEPS, Check, judge_candidates
from workers.services.base import ServiceName, Services, call_service
from workers.services.handlers import find_handler
from workers.steps.bisection import load_bisected_steps

logger = logging.getLogger(__name__)

ABOUT_TO_BE_SENT = State(status=Status.ABOUT_TO_BE_SENT)


def judge_batch(
    database: Database,
    batch: Batch,
    step: Step,
    checks: Sequence[Check],
    services: Services,
    author: Author,
    *,
    is_last_try: bool = False,
) -> None:
    """Stop the queued messages that one of the checks speaks against.

    Raises :exc:`workers.services.base.ServiceUnavailable`, but on the ``is_last_try``.
    """
    started_at = batch.campaign.clock.now()
    with database.read() as connection:
        numbers = _load_queued_numbers(connection, batch)
    candidates = load_candidates(
        database, batch.campaign, numbers, step, services, started_at, is_last_try=is_last_try
    )
    verdicts = judge_candidates(candidates, checks, to_datetime(started_at))
    for name, count in verdicts.failure_counts.items():
        logger.error(
            "check %s raised for %d messages of %s, batch %d",
            *(name, count, batch.campaign.name, batch.batch),
            exc_info=verdicts.errors[name],
        )
    with open_entry(database, batch, step, author, started_at=started_at) as written:
        for reason, blocked in verdicts.blocked.items():
            _mark_not_sent(written, blocked, reason, started_at)


def _load_queued_numbers(connection: Connection, batch: Batch) -> Sequence[int]:
    return connection.scalars(
        sa.select(messages.c.number)
        .where(*batch_conditions(batch), messages.c.status == Status.QUEUED)
        .order_by(messages.c.number)
    ).all()


def dispatch(
    database: Database,
    batch: Batch,
    services: Services,
    author: Author,
    *,
    is_last_try: bool = False,
) -> NextStep:
    """Hand over what passed every check, as far as limits and the organization's credit go.

    Raises :exc:`workers.services.base.ServiceUnavailable`, but on the ``is_last_try``.
    """
    campaign = batch.campaign
    started_at = campaign.clock.now()
    unchecked = _find_unjudged_step(database, batch)
    if unchecked is not None:
        return NextStep(unchecked)
    unready, why = _find_unprepared_messages(database, batch, services, is_last_try)
    organization = campaign.organization
    with open_entry(database, batch, Step.DISPATCH, author, started_at=started_at) as written:
        # Read within the entry, so that the allowance is counted for exactly those who use it.
        numbers = _load_queued_numbers(written.connection, batch)
        credit = None
        if organization.credit is not None or organization.message_limit is not None:
            credit = allowance.lock_organization(written.connection, organization.id)
        if organization.message_limit is not None:
            had = allowance.count_recent_messages(
                written.connection, database, campaign, numbers, started_at
            )
            limited = {each for each, count in had.items() if count >= organization.message_limit}
            _mark_not_sent(written, sorted(limited), Reason.MESSAGE_LIMIT, started_at)
            numbers = [number for number in numbers if number not in limited]
        if unready:
            _mark_not_sent(written, [each for each in numbers if each in unready], why, started_at)
            numbers = [number for number in numbers if number not in unready]
        if credit is not None:
            _mark_not_sent(written, numbers[credit:], Reason.OUT_OF_CREDIT, started_at)
            numbers = numbers[:credit]
            allowance.charge_credit(written.connection, organization.id, len(numbers))
        written.move(
            Move(numbers=numbers, source=QUEUED_STATE, target=ABOUT_TO_BE_SENT, at=started_at)
        )
    return NextStep(Step.SUBMIT)


def _find_unprepared_messages(
    database: Database, batch: Batch, services: Services, is_last_try: bool
) -> tuple[Collection[int], Reason]:
    """Queued messages that nobody could prepare, and why."""
    with database.read() as connection:
        numbers = _load_queued_numbers(connection, batch)
    if find_handler(batch.campaign.kind) is None:
        return frozenset(numbers), Reason.HANDLER_NOT_FOUND
    said = call_service(
        services, ServiceName.HANDLER, batch.campaign, numbers, is_last_try=is_last_try
    )
    return said.failed, Reason.TIMEOUT


def _find_unjudged_step(database: Database, batch: Batch) -> Step | None:
    """The first step that has not judged the batch yet: nobody is handed over unchecked."""
    done = _load_completed_steps(database, batch)
    return next((step for step in CHECK_STEPS if step not in done), None)


def _load_completed_steps(database: Database, batch: Batch) -> set[str]:
    """The steps that are on record for a batch, as far as they were done on all of it."""
    query = sa.select(steps.c.step).where(
        steps.c.campaign_id == batch.campaign.id, steps.c.batch == batch.batch
    )
    with database.read() as connection:
        return set(connection.scalars(query)) - load_bisected_steps(connection, batch)


def _mark_not_sent(written: Entry, numbers: Sequence[int], reason: Reason, at: Instant) -> None:
    target = State(status=Status.NOT_SENT, reason=reason)
    written.move(Move(numbers=numbers, source=QUEUED_STATE, target=target, at=at))
