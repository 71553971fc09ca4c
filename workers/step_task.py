"""Run a step in a Celery task: restart the task after errors, then enqueue the next step."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

from celery.exceptions import Retry

from tracker.output.logs import LogFields
from tracker.queries.next_step import NextStep, is_held, next_step
from tracker.record.catalog import Batch
from tracker.record.journal import Author
from tracker.record.monitoring.counters import CounterName, record_counters
from tracker.status import Step
from workers.chains import StepArguments, countdown, enqueue_step, read_wait_seconds
from workers.gateways.base import UNAVAILABLE_WARNING, GatewayUnavailable
from workers.runtime import resources
from workers.steps.bisection import (
    SegmentFailed,
    SegmentsLeft,
    StepExecutionError,
    UncountedTry,
    bisecting,
)
from workers.steps.context import StepContext
from workers.transient import TRANSIENT_ERRORS, RetryingTask, compute_backoff

logger = logging.getLogger(__name__)

FAILED_STEP_DELAY = timedelta(seconds=0.2)
"""Real time to wait before a failed step is tried again."""

StepFunction = Callable[[StepContext], NextStep | None]
"""Runs a step. Returns the step to run next only where the record can't tell."""


class StepTask(RetryingTask):
    """A task that runs one step on one batch."""

    abstract = True

    def restart(
        self, arguments: StepArguments, reason: Exception, delay: timedelta = timedelta()
    ) -> Retry:
        """Send this task back to its queue with other arguments; return the exception to raise.

        The restarted task has all its retries again, unlike after `Task.retry`. It keeps the rest
        of its chain.
        """
        again = self.signature_from_request(
            kwargs=arguments.to_kwargs(), retries=0, countdown=countdown(delay)
        )
        again.apply_async()
        return Retry(exc=reason, when=delay.total_seconds())


def run_step(task: StepTask, step: Step, work: StepFunction, arguments: StepArguments) -> None:
    """Run a step on a batch; then enqueue its next step, unless the task's chain goes on.

    The step is left out if its campaign is paused or cancelled, see `is_held`. A pause that begins
    later doesn't end the step.
    """
    counters = resources().counters
    waited = read_wait_seconds(task.request)
    if waited is not None:
        counters.observe(CounterName.WAIT_SECONDS, step, waited)
    batch = resources().load_batch(arguments.campaign, arguments.batch)
    context = StepContext(
        database=resources().database,
        batch=batch,
        author=Author(worker=task.request.hostname or "unknown", task_id=task.request.id),
        is_last_try=task.request.retries >= task.max_retries,
        unavailable_count=arguments.unavailable_count,
        unavailable_since=arguments.unavailable_since,
        counters=counters,
    )
    following = (
        None if is_held(batch.campaign, step) else _work(task, step, work, arguments, context)
    )
    if task.request.chain or arguments.is_one_off:
        return
    following = following or next_step(context.database, batch, completed=step)
    if following is not None:
        enqueue_step(
            task.app,
            following.step,
            arguments.first_try(),
            batch.campaign,
            delay=following.delay,
        )


def _work(
    task: StepTask,
    step: Step,
    work: StepFunction,
    arguments: StepArguments,
    context: StepContext,
) -> NextStep | None:
    """Run a step on a batch, or on the next segment of a bisected one; return what it returns."""
    with (
        restarting_while_gateway_unavailable(task, step, arguments, context.batch),
        restarting_bisected_step(task, step, arguments),
        bisecting(
            context,
            step,
            is_retry=arguments.is_retry or task.request.retries > 0,
            refund_first=arguments.refund_first,
            transient_errors=(*TRANSIENT_ERRORS, GatewayUnavailable),
        ) as narrowed,
    ):
        return work(narrowed)
    return None  # the gateway is unavailable to a task beside the batch's own


def _record_trouble(name: CounterName, label: str) -> None:
    """Count a failure at once: as long as it lasts, no entry may record it."""
    counters = resources().counters
    counters.add(name, label)
    with suppress(*TRANSIENT_ERRORS):  # the next entry records it
        record_counters(resources().database, counters)


@contextmanager
def restarting_while_gateway_unavailable(
    task: StepTask, step: Step, arguments: StepArguments, batch: Batch
) -> Iterator[None]:
    """Restart a task whose gateway is unavailable, later each time and without a limit."""
    try:
        yield
    except GatewayUnavailable as error:
        if arguments.is_one_off:  # the batch's own task retries
            return
        _record_trouble(CounterName.GATEWAY_UNAVAILABLE, batch.campaign.gateway_kind)
        count = arguments.unavailable_count
        delay = compute_backoff(count, batch.campaign.speed)
        fields = LogFields(
            campaign=batch.campaign.id,
            batch=batch.batch,
            step=step,
            retry_in=f"{delay.total_seconds():.1f}s",
            error=error,
        )
        logger.warning(UNAVAILABLE_WARNING + "%s", fields)
        later = replace(
            arguments.first_try(),
            unavailable_count=count + 1,
            unavailable_since=arguments.unavailable_since or batch.campaign.clock.now(),
        )
        raise task.restart(later, error, delay) from error


@contextmanager
def restarting_bisected_step(
    task: StepTask, step: Step, arguments: StepArguments
) -> Iterator[None]:
    """Restart a task as long as segments of its batch are left."""
    try:
        yield
    except SegmentsLeft as error:
        raise task.restart(arguments.first_try(), error) from error
    except StepExecutionError as error:
        fields = LogFields(
            campaign=arguments.campaign, batch=arguments.batch, step=step, error=error.__cause__
        )
        if not isinstance(error, SegmentFailed):
            _record_trouble(CounterName.FAILED_STEPS, step)
            logger.error("step failed: %s", fields)
            raise
        logger.warning("step failed: %s", fields)
        again = replace(arguments.first_try(), is_retry=True)
        raise task.restart(again, error, FAILED_STEP_DELAY) from error
    except UncountedTry as error:
        [first] = error.args
        kwargs = replace(arguments, refund_first=first).to_kwargs()
        raise task.retry(exc=error.__cause__, kwargs=kwargs) from error
