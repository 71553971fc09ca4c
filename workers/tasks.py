"""The Celery tasks: one for each step, the daily rollup and the sweep.

A task carries the key of a batch and no state, so it may be lost, repeated or run twice at the same
time.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import phonenumbers  # noqa: F401  # before the pool is forked, or each process would load it
from celery import Task

from tracker.output.logs import LogFields
from tracker.queries.next_step import NextStep
from tracker.record.rollup import record_daily_rollup, roll_up_engagement
from tracker.settings import load_settings
from tracker.status import Step
from workers.app import app
from workers.chains import StepArguments
from workers.checks.base import checks_of
from workers.queues import ROLLUP_TASK, SWEEP_TASK, task_name
from workers.runtime import resources
from workers.step_task import StepFunction, StepTask, run_step
from workers.steps import at_gateway, before_gateway
from workers.steps.context import StepContext
from workers.transient import TRANSIENT_ERRORS, RetryingTask
from workers.upkeep.broker import record_sweep
from workers.upkeep.schema_change import stopping_on_schema_change
from workers.upkeep.sweep import requeue_stalled_batches

logger = logging.getLogger(__name__)


def step_task(step: Step) -> Callable[[StepFunction], Task]:
    """Register a function as the Celery task that runs a step."""

    def register(work: StepFunction) -> Task:
        def run(self: StepTask, **arguments: Any) -> None:
            with stopping_on_schema_change(self):
                run_step(self, step, work, StepArguments(**arguments))

        run.__doc__ = work.__doc__
        return app.task(run, name=task_name(step), base=StepTask, bind=True)

    return register


@step_task(Step.SUPPRESS)
def suppress(context: StepContext) -> None:
    """Block messages that must not be sent."""
    judge_step(context, Step.SUPPRESS)


@step_task(Step.VALIDATE)
def validate(context: StepContext) -> None:
    """Block messages that lack what they need."""
    judge_step(context, Step.VALIDATE)


def judge_step(context: StepContext, step: Step) -> None:
    """Judge the messages with the checks of a step."""
    services = resources().services_of(context.campaign)
    before_gateway.judge_batch(context, step, checks_of(step), services)


@step_task(Step.DISPATCH)
def dispatch(context: StepContext) -> None:
    """Dispatch the messages that passed the checks, within limits and credit."""
    before_gateway.dispatch(context, resources().services_of(context.campaign))


@step_task(Step.SUBMIT)
def submit(context: StepContext) -> NextStep | None:
    """Submit messages to the gateway, at its rate."""
    gateway = resources().gateway_of(context.campaign)
    return at_gateway.submit(context, gateway, resources().throttle_of(context.campaign))


@step_task(Step.DELIVER)
def deliver(context: StepContext) -> None:
    """Apply the gateway's receipts."""
    at_gateway.deliver(context, resources().gateway_of(context.campaign))


@step_task(Step.ENGAGE)
def engage(context: StepContext) -> None:
    """Record the recipients' engagement."""
    at_gateway.engage(context, resources().gateway_of(context.campaign))


@app.task(name=ROLLUP_TASK, base=RetryingTask, bind=True)  # type: ignore[untyped-decorator]
def rollup(self: Task, campaigns: Sequence[int] | None = None) -> None:
    """Bring the daily counts of engagement up to date: of some campaigns, or beat's rollup of all.

    A run rolls up its own campaigns at each 1 am of its clock. Only beat's rollup is recorded as
    the daily one.
    """
    with stopping_on_schema_change(self):
        database = resources().open_checked_database()
        roll_up_engagement(database, load_settings().zone, campaigns)
        if campaigns is None:
            record_daily_rollup(database)


# Without its events, since one sweep every two seconds would hide everything else in Flower.
@app.task(name=SWEEP_TASK, send_events=False, bind=True)  # type: ignore[untyped-decorator]
def sweep(self: Task) -> None:
    """Re-queue stalled batches. A failed sweep isn't retried: the next one is due in seconds."""
    try:
        with stopping_on_schema_change(self):
            database = resources().open_checked_database()
            record_sweep(resources().broker)
            requeued = requeue_stalled_batches(database, app, resources().broker)
    except TRANSIENT_ERRORS as error:
        logger.warning("sweep failed: %s", LogFields(error=error))
        return
    for batch in requeued:
        # The first re-queue is routine: a busy worker may hold the task that the sweep misses.
        level = logging.INFO if batch.requeue_count == 1 else logging.WARNING
        logger.log(level, "re-queued stalled batch: %s", batch.log_fields)
