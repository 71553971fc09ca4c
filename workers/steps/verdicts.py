"""Record the verdicts of checks, and judge messages again when they are dispatched."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tracker.clock import Instant, from_datetime, to_timedelta
from tracker.output.logs import LogFields
from tracker.queries.next_step import CHECK_STEPS
from tracker.record.deferrals import Deferral, find_waiting, read_deferrals
from tracker.record.details import TransitionDetail
from tracker.record.journal import QUEUED_STATE, Entry, Move, State
from tracker.settings import to_local_time
from tracker.status import Reason, Status, Step
from workers.candidates import load_candidates
from workers.checks.base import Check, checks_at_dispatch, checks_of
from workers.checks.judging import FAILED_CHECK_REASON, Verdicts, judge_candidates, merge_verdicts
from workers.checks.suspects import find_suspects
from workers.services.base import Services
from workers.steps.context import StepContext

logger = logging.getLogger(__name__)

SLOW_CALL_SECONDS, SLOW_BATCH_SECONDS = 0.05, 1.0
"""Seconds from which a call of a check, or its calls for a batch, are logged as slow."""


def judge_numbers(
    context: StepContext,
    step: Step,
    checks: Sequence[Check],
    services: Services,
    numbers: Sequence[int],
    now: Instant,
) -> Verdicts:
    """Return the verdicts of checks of a step on messages, and log the checks that failed.

    Only suspects are loaded and judged; the checks block no other message.
    """
    candidates = load_candidates(
        context.database,
        context.campaign,
        numbers,
        step,
        services,
        now,
        is_last_try=context.is_last_try,
        suspects=find_suspects(checks, context.campaign),
    )
    verdicts = judge_candidates(
        candidates,
        checks,
        to_local_time(now),
        is_last_try=context.is_last_try,
        announce=context.announce_check,
    )
    _log_slow_checks(context, verdicts)
    for name, count in verdicts.failure_counts.items():
        error = verdicts.errors[name]
        fields = LogFields(
            check=name,
            campaign=context.campaign.id,
            batch=context.batch.batch,
            messages=count,
            error=error,
        )
        logger.error("check failed: %s", fields, exc_info=error)
    return verdicts


def _log_slow_checks(context: StepContext, verdicts: Verdicts) -> None:
    for name, spent in verdicts.times.items():
        if spent.seconds_per_call >= SLOW_CALL_SECONDS or spent.seconds >= SLOW_BATCH_SECONDS:
            fields = LogFields(
                check=name,
                campaign=context.campaign.id,
                batch=context.batch.batch,
                seconds_per_call=f"{spent.seconds_per_call:.4f}",
                seconds=f"{spent.seconds:.1f}",
            )
            logger.warning("check slow: %s", fields)


@dataclass
class Rejudgement:
    """The decisions of checks on queued messages at dispatch.

    Attributes:
        ready: the messages that no check blocks or defers, ascending.
        expired: deferred messages that a check defers again, although they have waited for as long
            as the run allows.
    """

    ready: Sequence[int]
    verdicts: Verdicts = field(default_factory=Verdicts)
    expired: dict[int, TransitionDetail] = field(default_factory=dict)


def judge_at_dispatch(
    context: StepContext, services: Services, numbers: Sequence[int], now: Instant
) -> Rejudgement:
    """Judge the queued messages that need it again.

    All checks judge deferred messages that are due. Checks with `again_at_dispatch` judge messages
    that no check deferred. Messages that aren't due are left out.
    """
    deferrals: Mapping[int, Deferral] = {}
    if context.batch.deferred:
        with context.database.read() as connection:
            deferrals = read_deferrals(connection, context.batch)
    waiting = find_waiting(deferrals, now)
    due = [number for number in numbers if number in deferrals and number not in waiting]
    fresh = [number for number in numbers if number not in deferrals] if deferrals else numbers
    parts: list[Verdicts] = []
    blocked: set[int] = set()
    for step in CHECK_STEPS:
        for judged, is_deferred in ((due, True), (fresh, False)):
            judges = checks_at_dispatch(checks_of(step), is_deferred=is_deferred)
            remaining = [number for number in judged if number not in blocked] if judges else ()
            if remaining:
                part = judge_numbers(context, step, judges, services, remaining, now)
                parts.append(part)
                blocked.update(*part.blocked.values())
    if not parts:
        return Rejudgement(fresh)
    verdicts = merge_verdicts(parts)
    left = blocked.union(verdicts.deferrals)
    ready = [number for number in numbers if number not in left and number not in waiting]
    rejudgement = Rejudgement(ready, verdicts)
    deadline = now - context.campaign.defer_at_most
    for number in [*verdicts.deferrals]:
        if number in deferrals and deferrals[number].first_deferred_at <= deadline:
            name = verdicts.deferrals.pop(number).check_name
            limit = to_timedelta(context.campaign.defer_at_most)
            text = f"would be deferred for longer than {limit} in all"
            rejudgement.expired[number] = TransitionDetail(name, text)
    return rejudgement


def record_rejudgement(
    context: StepContext, written: Entry, rejudgement: Rejudgement, now: Instant
) -> None:
    """Record what checks decided at dispatch."""
    record_verdicts(context, written, rejudgement.verdicts, now)
    expired = rejudgement.expired
    mark_not_sent(written, [*expired], Reason.CUSTOM_RULE, now, expired)


def record_verdicts(context: StepContext, written: Entry, verdicts: Verdicts, now: Instant) -> None:
    """Mark blocked messages as Not Sent, and record until when deferred ones wait."""
    for check, blocked in verdicts.by_check.items():
        details = _make_details(check, blocked, verdicts.details)
        mark_not_sent(written, blocked, check.reason, now, details)
    failures = {
        number: TransitionDetail(failure.check_name, failure.error)
        for number, failure in verdicts.failures.items()
    }
    mark_not_sent(written, [*failures], FAILED_CHECK_REASON, now, failures)
    if verdicts.deferrals:
        _record_deferrals(context, written, verdicts, now)


def _record_deferrals(
    context: StepContext, written: Entry, verdicts: Verdicts, now: Instant
) -> None:
    """Record deferrals, for at most `defer_at_most` after a check first deferred the message.

    A message that an earlier step deferred for longer keeps that deferral.
    """
    earlier = read_deferrals(written.connection, context.batch) if written.has_deferrals else {}
    recorded: dict[int, Deferral] = {}
    for number, (name, until) in verdicts.deferrals.items():
        first = earlier[number].first_deferred_at if number in earlier else now
        latest = first + context.campaign.defer_at_most
        deferral = Deferral(name, min(from_datetime(until), latest), first)
        if number not in earlier or earlier[number].until < deferral.until:
            recorded[number] = deferral
    written.defer(recorded)


def exclude_waiting(
    context: StepContext, written: Entry, numbers: Sequence[int], now: Instant
) -> Sequence[int]:
    """Return the messages without those that wait for a later time.

    Messages that another worker has deferred since the batch was loaded weren't judged again.
    """
    if not written.has_deferrals:
        return numbers
    deferrals = read_deferrals(written.connection, context.batch)
    waiting = find_waiting(deferrals, now) if context.batch.deferred else deferrals
    return [number for number in numbers if number not in waiting]


def mark_not_sent(
    written: Entry,
    numbers: Sequence[int],
    reason: Reason,
    at: Instant,
    details: Mapping[int, TransitionDetail] | None = None,
) -> None:
    """Move queued messages to Not Sent."""
    target = State(status=Status.NOT_SENT, reason=reason)
    written.move(Move(numbers=numbers, source=QUEUED_STATE, target=target, at=at, details=details))


def _make_details(
    check: Check, blocked: Iterable[int], texts: Mapping[int, str]
) -> Mapping[int, TransitionDetail]:
    """Return what the reason of a check doesn't say, by the numbers of the messages."""
    if check.is_evident:
        blocked = [number for number in blocked if number in texts]
    name = None if check.is_evident else check.name
    return {number: TransitionDetail(name, texts.get(number)) for number in blocked}
