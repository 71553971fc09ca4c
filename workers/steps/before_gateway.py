"""The steps before the gateway: the checks of suppress and validate, and dispatch.

Plain functions without Celery. Each reads the messages in the status that it serves, decides
without holding a write transaction, then has the journal move them. A step that finds nothing to do
moves nothing, so it may be repeated.
"""

from collections.abc import Collection, Sequence

from tracker.clock import Instant
from tracker.queries.batch_states import read_numbers_in_status, scan_numbers_in_status
from tracker.queries.next_step import CHECK_STEPS, read_completed_checks
from tracker.record import allowance
from tracker.record.catalog import Campaign
from tracker.record.journal import QUEUED_STATE, Entry, Move, State
from tracker.status import Reason, Status, Step
from workers.checks.base import Check
from workers.services.base import ServiceName, Services, call_service
from workers.services.handlers import find_handler
from workers.steps.charging import charge_messages, find_costs
from workers.steps.context import StepContext
from workers.steps.verdicts import (
    exclude_waiting,
    judge_at_dispatch,
    judge_numbers,
    mark_not_sent,
    record_rejudgement,
    record_verdicts,
)

ABOUT_TO_BE_SENT = State(status=Status.ABOUT_TO_BE_SENT)


def judge_batch(
    context: StepContext, step: Step, checks: Sequence[Check], services: Services
) -> None:
    """Block the queued messages that a check of the step blocks, and defer those that one defers.

    Raises:
        ServiceUnavailable: a service that a check needs is unavailable, and a retry follows.
    """
    started_at = context.now()
    with context.database.read() as connection:
        numbers = read_numbers_in_status(connection, context.batch, Status.QUEUED).get(0, ())
    verdicts = judge_numbers(context, step, checks, services, numbers, started_at)
    with context.entry(step, started_at=started_at, check_times=verdicts.times) as written:
        record_verdicts(context, written, verdicts, started_at)


def dispatch(context: StepContext, services: Services) -> None:
    """Dispatch the messages that passed every check, within limits and credit.

    Does nothing before all checks have judged the batch: no message is sent unchecked. Messages
    that a check deferred wait, and are judged again when they are due.

    Raises:
        ServiceUnavailable: a service or the handler is unavailable, and a retry follows.
    """
    started_at = context.now()
    if not _is_judged(context):
        return
    with context.database.read() as connection:
        numbers = read_numbers_in_status(connection, context.batch, Status.QUEUED).get(0, ())
    rejudgement = judge_at_dispatch(context, services, numbers, started_at)
    unprepared, reason = _find_unprepared_messages(context, services, rejudgement.ready)
    costs = find_costs(context, rejudgement.ready)
    times = rejudgement.verdicts.times
    with context.entry(Step.DISPATCH, started_at=started_at, check_times=times) as written:
        record_rejudgement(context, written, rejudgement, started_at)
        # Read within the entry, so the allowance is counted for exactly the messages that use it.
        queued = scan_numbers_in_status(written.connection, context.batch, Status.QUEUED)
        numbers = queued.get(0, ())
        numbers = exclude_waiting(context, written, numbers, started_at)
        credit = None
        if _has_allowance(context.campaign):
            credit = allowance.lock_organization(written.connection, context.campaign)
        limited = _find_limited_messages(context, written, numbers, started_at)
        numbers = _exclude(written, numbers, limited, Reason.MESSAGE_LIMIT, started_at)
        numbers = _exclude(written, numbers, unprepared, reason, started_at)
        if credit is not None:
            numbers = charge_messages(context, written, numbers, costs, credit, started_at)
        written.move(
            Move(numbers=numbers, source=QUEUED_STATE, target=ABOUT_TO_BE_SENT, at=started_at)
        )


def _has_allowance(campaign: Campaign) -> bool:
    """Return whether the organization's credit or its message limit decides what is sent."""
    organization = campaign.organization
    has_credit = organization.credit_on(campaign.channel) is not None
    return has_credit or organization.message_limit is not None


def _find_unprepared_messages(
    context: StepContext, services: Services, numbers: Sequence[int]
) -> tuple[Collection[int], Reason]:
    """Return the messages that the campaign's handler couldn't prepare, and the reason."""
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
    mark_not_sent(written, [number for number in numbers if number in excluded], reason, at)
    return [number for number in numbers if number not in excluded]
