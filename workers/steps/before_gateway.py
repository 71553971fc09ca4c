"""The steps before the gateway: the checks of suppress and validate, and dispatch.

Plain functions without Celery. Each reads the messages in the status that it serves, decides
without holding a write transaction, then has the journal move them. A step that finds nothing to do
moves nothing, so it may be repeated.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_datetime
from tracker.queries.next_step import CHECK_STEPS, read_completed_checks
from tracker.record import allowance
from tracker.record.catalog import Batch
from tracker.record.check_times import encode_check_times
from tracker.record.details import TransitionDetail
from tracker.record.journal import QUEUED_STATE, Entry, Move, State
from tracker.record.predicates import is_of_message_in
from tracker.status import Reason, Status, Step
from tracker.store.schema.messages import messages
from tracker.text import format_fields
from workers.candidates import load_candidates
from workers.checks.base import Check
from workers.checks.judging import FAILED_CHECK_REASON, Verdicts, announcing, judge_candidates
from workers.services.base import ServiceName, Services, call_service
from workers.services.handlers import find_handler
from workers.steps.context import StepContext

logger = logging.getLogger(__name__)

SLOW_CALL_SECONDS, SLOW_BATCH_SECONDS = 0.05, 1.0
"""Seconds from which a call of a check, or its calls for a batch, are logged as slow."""

ABOUT_TO_BE_SENT = State(status=Status.ABOUT_TO_BE_SENT)


def judge_batch(
    context: StepContext, step: Step, checks: Sequence[Check], services: Services
) -> None:
    """Block the queued messages that a check of the step blocks.

    Raises:
        ServiceUnavailable: a service that a check needs is unavailable, and a retry follows.
    """
    started_at = context.now()
    with context.database.read() as connection:
        numbers = _load_queued_numbers(connection, context.batch)
    candidates = load_candidates(
        context.database,
        context.campaign,
        numbers,
        step,
        services,
        started_at,
        is_last_try=context.is_last_try,
    )
    if context.announce_check is not None:
        checks = [announcing(check, context.announce_check) for check in checks]
    verdicts = judge_candidates(candidates, checks, to_datetime(started_at))
    if context.announce_check is not None:
        context.announce_check(None)
    _log_slow_checks(context, verdicts)
    for name, count in verdicts.failure_counts.items():
        error = verdicts.errors[name]
        fields = format_fields(
            check=name,
            campaign=context.campaign.name,
            batch=context.batch.batch,
            messages=count,
            error=error,
        )
        logger.error("check failed: %s", fields, exc_info=error)
    with context.entry(step, started_at=started_at) as written:
        written.check_times = encode_check_times(verdicts.times)
        for check, blocked in verdicts.by_check.items():
            details = _make_details(check, blocked, verdicts.details)
            _mark_not_sent(written, blocked, check.reason, started_at, details)
        failures = {
            number: TransitionDetail(*failure) for number, failure in verdicts.failures.items()
        }
        _mark_not_sent(written, [*failures], FAILED_CHECK_REASON, started_at, failures)


def _log_slow_checks(context: StepContext, verdicts: Verdicts) -> None:
    for name, taken in verdicts.times.items():
        if taken.seconds_per_call >= SLOW_CALL_SECONDS or taken.seconds >= SLOW_BATCH_SECONDS:
            fields = format_fields(
                check=name,
                campaign=context.campaign.name,
                batch=context.batch.batch,
                seconds_per_call=f"{taken.seconds_per_call:.4f}",
                seconds=f"{taken.seconds:.1f}",
            )
            logger.warning("check slow: %s", fields)


def _make_details(
    check: Check, blocked: Iterable[int], texts: Mapping[int, str]
) -> Mapping[int, TransitionDetail]:
    """Return what the reason of a check doesn't say, by the numbers of the messages."""
    if check.is_evident:
        blocked = [number for number in blocked if number in texts]
    name = None if check.is_evident else check.name
    return {number: TransitionDetail(name, texts.get(number)) for number in blocked}


def _load_queued_numbers(connection: Connection, batch: Batch) -> Sequence[int]:
    return connection.scalars(
        sa.select(messages.c.number)
        .where(is_of_message_in(messages, batch), messages.c.status == Status.QUEUED)
        .order_by(messages.c.number)
    ).all()


def dispatch(context: StepContext, services: Services) -> None:
    """Dispatch the messages that passed every check, within limits and credit.

    Does nothing before all checks have judged the batch: no message is sent unchecked.

    Raises:
        ServiceUnavailable: the handler is unavailable, and a retry follows.
    """
    started_at = context.now()
    if not _is_judged(context):
        return
    unprepared, reason = _find_unprepared_messages(context, services)
    with context.entry(Step.DISPATCH, started_at=started_at) as written:
        # Read within the entry, so the allowance is counted for exactly the messages that use it.
        numbers = _load_queued_numbers(written.connection, context.batch)
        organization = context.campaign.organization
        credit = None
        if organization.credit is not None or organization.message_limit is not None:
            credit = allowance.lock_organization(written.connection, organization.id)
        limited = _find_limited_messages(context, written, numbers, started_at)
        numbers = _exclude(written, numbers, limited, Reason.MESSAGE_LIMIT, started_at)
        numbers = _exclude(written, numbers, unprepared, reason, started_at)
        if credit is not None:
            _mark_not_sent(written, numbers[credit:], Reason.OUT_OF_CREDIT, started_at)
            numbers = numbers[:credit]
            allowance.charge_credit(written.connection, organization.id, len(numbers))
        written.move(
            Move(numbers=numbers, source=QUEUED_STATE, target=ABOUT_TO_BE_SENT, at=started_at)
        )


def _find_unprepared_messages(
    context: StepContext, services: Services
) -> tuple[Collection[int], Reason]:
    """Return the queued messages that the campaign's handler couldn't prepare, and the reason."""
    with context.database.read() as connection:
        numbers = _load_queued_numbers(connection, context.batch)
    if find_handler(context.campaign.kind) is None:
        return frozenset(numbers), Reason.HANDLER_NOT_FOUND
    answers = call_service(
        services,
        ServiceName.HANDLER,
        context.campaign,
        numbers,
        is_last_try=context.is_last_try,
    )
    return answers.failed, Reason.TIMEOUT


def _find_limited_messages(
    context: StepContext, written: Entry, numbers: Sequence[int], now: Instant
) -> Collection[int]:
    """Return the messages to customers who have had as many as the organization allows."""
    limit = context.campaign.organization.message_limit
    if limit is None:
        return ()
    counts = allowance.count_recent_messages(
        written.connection, context.database, context.campaign, numbers, now
    )
    return {number for number, count in counts.items() if count >= limit}


def _is_judged(context: StepContext) -> bool:
    """Return whether the check steps are done with the whole batch."""
    campaign_id, batch = context.campaign.id, context.batch.batch
    with context.database.read() as connection:
        completed = read_completed_checks(connection, campaign_id, batch, batch)
    return completed[batch].issuperset(CHECK_STEPS)


def _exclude(
    written: Entry, numbers: Sequence[int], excluded: Collection[int], reason: Reason, at: Instant
) -> Sequence[int]:
    """Mark the excluded messages as Not Sent, and return the others."""
    if not excluded:
        return numbers
    _mark_not_sent(written, [number for number in numbers if number in excluded], reason, at)
    return [number for number in numbers if number not in excluded]


def _mark_not_sent(
    written: Entry,
    numbers: Sequence[int],
    reason: Reason,
    at: Instant,
    details: Mapping[int, TransitionDetail] | None = None,
) -> None:
    target = State(status=Status.NOT_SENT, reason=reason)
    written.move(Move(numbers=numbers, source=QUEUED_STATE, target=target, at=at, details=details))
