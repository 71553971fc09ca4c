"""The Celery tasks: a batch in, one call to a stage, and the batch's next step out.

A task carries the key of a batch and no state, so it may be lost, repeated or done twice at once.
"""

import logging
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from celery import Task
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError

from tracker.errors import SendtraceError
from tracker.queries.next_step import MAX_COUNTDOWN, NextStep
from tracker.record.catalog import Batch
from tracker.record.journal import Author
from tracker.record.rollup import roll_up_engagement
from tracker.settings import load_settings
from tracker.status import Step
from workers import runtime
from workers.app import app
from workers.checks.base import checks_of
from workers.gateways.base import GatewayUnavailable
from workers.queues import ROLLUP_TASK, SWEEP_TASK, format_task_arguments, task_name
from workers.services.base import ServiceUnavailable
from workers.steps import at_gateway, before_gateway, bisection
from workers.steps.limits import StepTimeout, limit_step_time
from workers.upkeep import sweep as sweeps

logger = logging.getLogger(__name__)

TRANSIENT_ERRORS = (OperationalError, BrokerError, RedisError, ServiceUnavailable)
"""Troubles that pass: a database that restarts or is busy, a broker or a service that is away."""

FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 1.0, 30.0
"""Seconds of the campaign's time between two calls on a gateway that is away."""

MIN_BACKOFF_SECONDS = 0.1
"""Seconds of real time that this comes to at least, however fast the campaign's time runs."""


RETRY_POLICY = {
    "autoretry_for": TRANSIENT_ERRORS,
    "retry_backoff": 1,
    "retry_backoff_max": 30,
    "max_retries": 20,
    "default_retry_delay": 1,  # seconds, after the process of a task was killed
}


class StepExecutionError(SendtraceError):
    """A step could not be done on a batch; what broke it is told."""


def step(name: Step) -> Callable[[Callable[[Task, Batch], NextStep | None]], Task]:
    """Make a function the task of a step: it repeats what may pass, takes a batch apart that breaks
    it, and sends on what follows.

    A task that is ``is_one_off`` sends nothing on: another one of its batch is on the way. One that is
    done ``is_retry`` may have broken its process before; on the part that begins with ``refund_first`` the
    last try did not count.
    """

    def decorate(run_on_batch: Callable[[Task, Batch], NextStep | None]) -> Task:
        def run(
            self: Task,
            *,
            campaign: int,
            batch: int,
            unavailable_count: int = 0,
            is_one_off: bool = False,
            is_retry: bool = False,
            refund_first: int | None = None,
        ) -> None:
            whole = runtime.load_task_batch(campaign, batch)
            try:
                following = _run_step(
                    self, name, run_on_batch, whole, is_retry=is_retry, refund_first=refund_first
                )
                if not is_one_off:
                    enqueue_next_step(following, campaign, batch)
            except GatewayUnavailable as error:
                if is_one_off:  # the batch's own task comes back
                    return
                wait = compute_backoff(unavailable_count, whole.campaign.speed)
                logger.warning(
                    "the gateway of campaign %d is away (%s); batch %d comes back in %.1f s",
                    *(campaign, error, batch, wait.total_seconds()),
                )
                enqueue_next_step(
                    NextStep(name, wait), campaign, batch, unavailable_count=unavailable_count + 1
                )

        run.__doc__ = run_on_batch.__doc__
        task: Task = app.task(run, name=task_name(name), bind=True, **RETRY_POLICY)
        return task

    return decorate


def _run_step(
    task: Task,
    step: Step,
    run_on_batch: Callable[[Task, Batch], NextStep | None],
    whole: Batch,
    *,
    is_retry: bool,
    refund_first: int | None,
) -> NextStep | None:
    """Do a step on a batch, or on the next part of one that was taken apart; what follows."""
    taken = None
    if step in bisection.BISECTABLE_STEPS:
        suspicious = is_retry or task.request.retries > 0
        taken = bisection.claim_segment(
            runtime.database(),
            whole,
            step,
            author(task),
            is_retry=suspicious,
            refund_first=refund_first,
        )
    batch = whole if taken is None else taken.batch
    try:
        # A gateway has the same time for few: what it has sent by then must not be sent again.
        with limit_step_time(0 if taken is None or step is Step.SUBMIT else taken.halvings):
            following = run_on_batch(task, batch)
    except (*TRANSIENT_ERRORS, GatewayUnavailable) as error:
        if taken is not None:
            try:
                bisection.refund_try(runtime.database(), batch, step)
            except TRANSIENT_ERRORS:
                told = {**(task.request.kwargs or {}), "refund_first": batch.first}
                raise task.retry(exc=error, kwargs=told) from error
        raise
    except SendtraceError as error:  # something is set up wrongly, which is no message's doing
        if taken is not None:
            bisection.refund_try(runtime.database(), batch, step)
        elif step in bisection.BISECTABLE_STEPS:
            bisection.record_failure(runtime.database(), whole, batch, step, error)
        raise
    except (Exception, StepTimeout) as error:
        where = f"{step} of campaign {whole.campaign.id}, messages {batch.first} to {batch.last}"
        if step in bisection.BISECTABLE_STEPS and bisection.record_failure(
            runtime.database(), whole, batch, step, error
        ):
            enqueue_next_step(
                NextStep(step, FAILED_STEP_DELAY), whole.campaign.id, whole.batch, is_retry=True
            )
        # Celery would end the whole worker for some errors, such as MemoryError.
        raise StepExecutionError(f"{where}: {error!r}") from error
    if taken is not None and bisection.complete_segment(runtime.database(), batch, step):
        return NextStep(step)
    return following


FAILED_STEP_DELAY = timedelta(seconds=0.2)
"""How long to wait before a step is tried again that broke."""


def compute_backoff(unavailable_count: int, speed: float) -> timedelta:
    """How long to leave a gateway alone that was away ``unavailable_count`` times before, in real time.

    Twice as long each time, and never the same for all: who waited together does not come back
    together. There is no last time: outages end, and nothing is lost by waiting.
    """
    longest = (
        min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(unavailable_count, 10)) / speed
    )
    longest = max(2 * MIN_BACKOFF_SECONDS, longest)
    return timedelta(seconds=random.uniform(longest / 2, longest))  # noqa: S311  # no secret


def enqueue_next_step(
    following: NextStep | None,
    campaign: int,
    batch: int,
    *,
    unavailable_count: int = 0,
    is_retry: bool = False,
) -> None:
    """Put a batch's next step, if any, into the queue of its stage.

    ``unavailable_count`` is how often in a row its gateway was not there; ``is_retry``: the step broke.
    """
    if following is not None:
        told: dict[str, int] = {"unavailable_count": unavailable_count} if unavailable_count else {}
        if is_retry:
            told["is_retry"] = True
        app.tasks[task_name(following.step)].apply_async(
            kwargs={"campaign": campaign, "batch": batch, **told},
            # What waits longer than a task may be silent would be handed to somebody else, too.
            countdown=min(following.delay, MAX_COUNTDOWN).total_seconds() or None,
            kwargsrepr=format_task_arguments(campaign, runtime.campaign_name(campaign), batch),
        )


def author(task: Task) -> Author:
    request: Any = task.request
    return Author(worker=request.hostname or "unknown", task_id=request.id)


def is_last_try(task: Task) -> bool:
    """Whether a task has no retries left: what is away now, is away for good."""
    return bool(task.request.retries >= task.max_retries)


def judge_step(task: Task, step: Step, batch: Batch) -> None:
    """Have the checks of a step judge a batch."""
    before_gateway.judge_batch(
        runtime.database(),
        batch,
        step,
        checks_of(step),
        runtime.services_of(batch.campaign),
        author(task),
        is_last_try=is_last_try(task),
    )


@step(Step.SUPPRESS)
def suppress(task: Task, batch: Batch) -> NextStep:
    """Stop the messages that may not be sent."""
    judge_step(task, Step.SUPPRESS, batch)
    return NextStep(Step.VALIDATE)


@step(Step.VALIDATE)
def validate(task: Task, batch: Batch) -> NextStep:
    """Stop the messages that lack something they need."""
    judge_step(task, Step.VALIDATE, batch)
    return NextStep(Step.DISPATCH)


@step(Step.DISPATCH)
def dispatch(task: Task, batch: Batch) -> NextStep:
    """Hand over what is left, as far as credit goes."""
    services = runtime.services_of(batch.campaign)
    return before_gateway.dispatch(
        runtime.database(), batch, services, author(task), is_last_try=is_last_try(task)
    )


@step(Step.SUBMIT)
def submit(task: Task, batch: Batch) -> NextStep | None:
    """Give the gateway what waits for it."""
    gateway = runtime.gateway_of(batch.campaign)
    throttle = runtime.throttle_of(batch.campaign)
    return at_gateway.submit(runtime.database(), batch, gateway, throttle, author(task))


@step(Step.DELIVER)
def deliver(task: Task, batch: Batch) -> NextStep | None:
    """Take the receipts that are due."""
    gateway = runtime.gateway_of(batch.campaign)
    return at_gateway.deliver(runtime.database(), batch, gateway, author(task))


@step(Step.ENGAGE)
def engage(task: Task, batch: Batch) -> NextStep | None:
    """Record what recipients did with what was delivered."""
    gateway = runtime.gateway_of(batch.campaign)
    return at_gateway.engage(runtime.database(), batch, gateway, author(task))


@app.task(name=ROLLUP_TASK, **RETRY_POLICY)  # type: ignore[untyped-decorator]  # Celery comes without types
def rollup() -> None:
    """Bring the daily counts of engagement up to date."""
    roll_up_engagement(runtime.database(), load_settings().zone)


# One every two seconds would hide everything else in Flower.
@app.task(name=SWEEP_TASK, send_events=False)  # type: ignore[untyped-decorator]
def sweep() -> None:
    """Send on what stands still. It is done again soon, so what is in its way may pass."""
    try:
        sent_on = sweeps.sweep(runtime.database(), app, runtime.broker())
    except TRANSIENT_ERRORS as error:
        logger.warning("the sweep comes to no end: %s", error)
        return
    for each in sent_on:
        logger.warning(
            "campaign %d, batch %d stood still for %.0f s and is sent on to %s",
            *(each.standing.campaign.id, each.standing.batch, each.standing.idle_seconds),
            each.standing.step,
        )
