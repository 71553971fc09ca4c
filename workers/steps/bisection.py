"""Find the messages that make a step fail, and let the rest of their batch go on.

A step that raises an error or kills its process runs again on a segment, at first the whole batch.
A segment that fails again is halved. A single message that fails every try is a poison message:
it is blocked, and the others go on. A dead process reports nothing, so a try is counted before it
begins. Only the first try on a batch isn't counted, which keeps batches without poison free of
extra writes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import sqlalchemy as sa

from tracker.errors import SendtraceError
from tracker.record import allowance
from tracker.record.deferrals import is_deferred
from tracker.record.details import TransitionDetail
from tracker.record.journal import QUEUED_STATE, Move, State
from tracker.record.predicates import is_of_message_in
from tracker.status import Reason, Status, Step
from tracker.store.schema.messages import messages
from tracker.text import describe_error
from workers.steps.context import StepContext
from workers.steps.limits import StepTimeout, limit_step_time
from workers.steps.segments import PROCESS_DIED, Segment, SegmentStore

BISECTABLE_STEPS = (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH, Step.SUBMIT)
"""The steps that can run on a segment. Receipts and engagement are polled for a whole batch."""

MAX_SEGMENT_TRIES, MAX_MESSAGE_TRIES = 1, 3
"""Tries before a segment is halved, and before a single message is blocked."""

MAX_POISON_MESSAGES = 10
"""Messages of a batch that are blocked for failing a step. If more fail it, the step itself is at
fault: no more are blocked, and the sweep tries it again less and less often."""

MAX_ERROR_LENGTH = 1_000

REMAINING_STATUS = {Step.DISPATCH: Status.QUEUED, Step.SUBMIT: Status.ABOUT_TO_BE_SENT}
"""The status of messages that a step leaves for later, such as those beyond a gateway's rate."""


class StepExecutionError(SendtraceError):
    """A step failed. Either it can't be bisected, or bisection showed that the step is at fault."""


class SegmentFailed(StepExecutionError):
    """A step failed, and should be tried again on smaller segments."""


class SegmentsLeft(SendtraceError):
    """A step is done with one segment, and its batch has more."""


class UncountedTry(SendtraceError):
    """A try doesn't count, but the database was unavailable when that was to be recorded.

    The first argument is the first message of the segment.
    """


class UnblockableMessage(SendtraceError):
    """A poison message can't be blocked, since an earlier attempt of it was sent."""


@contextmanager
def bisecting(
    context: StepContext,
    step: Step,
    *,
    is_retry: bool,
    refund_first: int | None,
    transient_errors: tuple[type[Exception], ...],
) -> Iterator[StepContext]:
    """Run a step on the next segment of a batch, or on the whole batch if it hasn't failed before.

    Yields the context to run the step with. After a transient error the try doesn't count. For the
    other parameters see `claim_segment`.

    Raises:
        SegmentsLeft: the step is done with this segment, and the batch has others.
        SegmentFailed: the step failed, and should be tried again on smaller segments.
        StepExecutionError: the step failed, and smaller segments wouldn't help.
        UncountedTry: a transient error occurred, and the database couldn't record it.
    """
    segment = None
    if step in BISECTABLE_STEPS:
        segment = claim_segment(context, step, is_retry=is_retry, refund_first=refund_first)
    try:
        with limit_step_time(_count_halvings(context, step, segment)):
            yield context if segment is None else _narrow(context, step, segment)
    except transient_errors as error:
        if segment is not None:
            try:
                refund_try(context, step, segment)
            except transient_errors:
                raise UncountedTry(segment.first) from error
        raise
    except SendtraceError as error:  # a wrong configuration, for example, isn't a message's fault
        if segment is not None:
            refund_try(context, step, segment)
        elif step in BISECTABLE_STEPS:
            record_failure(context, step, segment, error)
        raise
    except (Exception, StepTimeout) as error:
        raise _failure(context, step, segment, error) from error
    if segment is not None and complete_segment(context, step, segment):
        raise SegmentsLeft(f"{step} of batch {context.batch.batch}: more segments are open")


def _narrow(context: StepContext, step: Step, segment: Segment) -> StepContext:
    """Return the context of a segment; that of a single message records which check runs."""
    narrowed = context.narrowed(segment.first, segment.size)
    if segment.size > 1:
        return narrowed

    def announce_check(name: str | None) -> None:
        error = None if name is None else f"check {name}: {PROCESS_DIED}"
        with context.database.write() as connection:
            SegmentStore(connection, context.batch, step).record_error(segment.first, error)

    return replace(narrowed, announce_check=announce_check)


def claim_segment(
    context: StepContext, step: Step, *, is_retry: bool, refund_first: int | None = None
) -> Segment | None:
    """Return the segment to work on now, with its try counted; None for the whole batch, uncounted.

    A batch is claimed as a whole unless it is bisected already, or `is_retry` says that the step
    may have failed on it, or killed its process, before. The latest try of the segment that starts
    at message `refund_first` doesn't count.

    Raises:
        UnblockableMessage: all that is left is a poison message that can't be blocked.
    """
    with context.database.read() as connection:
        is_bisected = bool(SegmentStore(connection, context.batch, step).load_open())
    if not is_bisected and not is_retry:
        return None
    with context.database.write() as connection:
        store = SegmentStore(connection, context.batch, step)
        store.lock_batch()
        if refund_first is not None:
            store.refund_try(refund_first)
        segment = _select_next_segment(store)
        if segment is None:
            return None
        is_poison = (
            segment.size == 1
            and segment.tries >= MAX_MESSAGE_TRIES
            and not _has_too_many_poison_messages(store)
        )
        if not is_poison:
            store.add_try(segment.first)
            return segment
    _block_poison_message(context.narrowed(segment.first, 1), step)
    return claim_segment(context, step, is_retry=False)


def _select_next_segment(store: SegmentStore) -> Segment | None:
    """Return the open segment with the fewest tries; halve it if it was tried often enough."""
    segments = store.load_open()
    if not segments:
        segments = store.unblocked()
        store.insert(segments)
    if not segments:
        return None
    segment = segments[0]
    if segment.size == 1 or segment.tries < MAX_SEGMENT_TRIES:
        return segment
    halves = segment.halves()
    store.delete(segment.first)
    store.insert(halves)
    return halves[0]


def _count_halvings(context: StepContext, step: Step, segment: Segment | None) -> int:
    """Return how often the batch was halved for a segment, which then gets less time.

    A gateway keeps its full time: what it has sent when its time is over would be sent again.
    """
    if segment is None or step is Step.SUBMIT:
        return 0
    return (context.batch.size // segment.size).bit_length() - 1


def _failure(
    context: StepContext, step: Step, segment: Segment | None, error: BaseException
) -> StepExecutionError:
    """Record a failed step, and return the error to raise."""
    failed = context if segment is None else context.narrowed(segment.first, segment.size)
    # The error is wrapped, as Celery ends the whole worker for some errors, such as MemoryError.
    message = (
        f"{step} of campaign {context.campaign.id}, messages {failed.batch.first} to"
        f" {failed.batch.last}: {describe_error(error)}"
    )
    if step in BISECTABLE_STEPS and record_failure(context, step, segment, error):
        return SegmentFailed(message)
    return StepExecutionError(message)


def record_failure(
    context: StepContext, step: Step, segment: Segment | None, error: BaseException
) -> bool:
    """Record the error of a segment or the whole batch; return whether a retry makes sense."""
    error_text = describe_error(error)[:MAX_ERROR_LENGTH]
    with context.database.write() as connection:
        store = SegmentStore(connection, context.batch, step)
        store.lock_batch()
        is_overrun = _has_too_many_poison_messages(store)
        if not is_overrun:
            store.touch_batch()
        first = context.batch.first if segment is None else segment.first
        # If another worker has bisected the batch meanwhile, its segments cover this one.
        if not store.record_error(first, error_text) and not store.load_open():
            store.insert(store.unblocked(), error_text)
    return not is_overrun


def refund_try(context: StepContext, step: Step, segment: Segment) -> None:
    """Take back a try that ended for an external reason, such as an unavailable service."""
    with context.database.write() as connection:
        SegmentStore(connection, context.batch, step).refund_try(segment.first)


def complete_segment(context: StepContext, step: Step, segment: Segment) -> bool:
    """Close a segment if the step left nothing of it; return whether another one is next."""
    with context.database.write() as connection:
        store = SegmentStore(connection, context.batch, step)
        store.lock_batch()
        store.touch_batch()
        remaining = sa.select(messages.c.number).where(
            is_of_message_in(messages, context.narrowed(segment.first, segment.size).batch),
            messages.c.status == REMAINING_STATUS.get(step),
        )
        if step is Step.DISPATCH:  # a deferred message waits outside of segments
            remaining = remaining.where(~is_deferred(context.batch))
        if step in REMAINING_STATUS and connection.execute(remaining.limit(1)).first():
            store.refund_try(segment.first)
            return False
        store.delete(segment.first)
        return bool(store.load_open())


def _has_too_many_poison_messages(store: SegmentStore) -> bool:
    return len(store.load_poison_numbers()) >= MAX_POISON_MESSAGES


def _block_poison_message(context: StepContext, step: Step) -> None:
    """Mark a poison message as Not Sent, and refund the credit that it was charged."""
    now, number = context.now(), context.batch.first
    source = State(status=Status.ABOUT_TO_BE_SENT) if step is Step.SUBMIT else QUEUED_STATE
    with context.entry(step, started_at=now) as written:
        error = SegmentStore(written.connection, context.batch, step).mark_poison(number, now)
        is_late = error.startswith(StepTimeout.__name__)
        target = State(
            status=Status.NOT_SENT, reason=Reason.TIMEOUT if is_late else Reason.STEP_FAILED
        )
        details = {number: TransitionDetail(text=error)}
        moved = written.move(
            Move(numbers=[number], source=source, target=target, at=now, details=details)
        )
        if step is Step.SUBMIT:
            allowance.refund_credit(context.database, written.connection, context.campaign, moved)
        query = sa.select(messages.c.status).where(is_of_message_in(messages, context.batch))
        if step is Step.SUBMIT and written.connection.scalar(query) == Status.SOFT_BOUNCED:
            raise UnblockableMessage(
                f"message {number} of campaign {context.campaign.name} fails {step}, and can't be"
                " blocked: an earlier attempt of it was sent"
            )
