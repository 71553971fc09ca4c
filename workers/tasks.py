"""The Celery tasks: a batch in, one call to a stage, and the batch's next step out.

A task carries the key of a batch and no state, so it may be lost, repeated or done twice at once.
"""

from collections.abc import Callable
from typing import Any

from celery import Task
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError

from tracker.journal import Author
from tracker.status import Step
from workers import runtime, stages
from workers.app import app
from workers.checks.base import checks_of
from workers.gateways.base import GatewayUnavailable
from workers.queues import task_name
from workers.services import ServiceUnavailable
from workers.stages import Following

PASSING = (OperationalError, RedisError, GatewayUnavailable, ServiceUnavailable)
"""Troubles that pass: a database or a broker that restarts or is busy, a gateway or a service that
is away."""


def step(name: Step) -> Callable[[Callable[..., Following | None]], Task]:
    """Make a function the task of a step: it repeats what may pass, and sends on what follows."""

    def decorate(do: Callable[..., Following | None]) -> Task:
        def run(self: Task, *, campaign: int, batch: int) -> None:
            send(do(self, campaign, batch), campaign, batch)

        run.__doc__ = do.__doc__
        task: Task = app.task(
            run,
            name=task_name(name),
            bind=True,
            autoretry_for=PASSING,
            retry_backoff=1,
            retry_backoff_max=30,
            max_retries=20,
            default_retry_delay=1,  # seconds, after the process of a task was killed
        )
        return task

    return decorate


def send(following: Following | None, campaign: int, batch: int) -> None:
    """Put a batch's next step, if any, into the queue of its stage."""
    if following is not None:
        app.tasks[task_name(following.step)].apply_async(
            kwargs={"campaign": campaign, "batch": batch},
            countdown=following.wait.total_seconds() or None,
        )


def author(task: Task) -> Author:
    request: Any = task.request
    return Author(worker=request.hostname or "unknown", task_id=request.id)


def is_last_try(task: Task) -> bool:
    """Whether a task has no retries left: what is away now, is away for good."""
    return bool(task.request.retries >= task.max_retries)


def judge(task: Task, step: Step, campaign: int, batch: int) -> None:
    """Have the checks of a step judge a batch."""
    work = runtime.take_up(campaign, batch)
    stages.judge_batch(
        runtime.database(),
        work,
        step,
        checks_of(step),
        runtime.services_of(work.campaign),
        author(task),
        last_try=is_last_try(task),
    )


@step(Step.SUPPRESS)
def suppress(task: Task, campaign: int, batch: int) -> Following:
    """Stop the messages that may not be sent."""
    judge(task, Step.SUPPRESS, campaign, batch)
    return Following(Step.VALIDATE)


@step(Step.VALIDATE)
def validate(task: Task, campaign: int, batch: int) -> Following:
    """Stop the messages that lack something they need."""
    judge(task, Step.VALIDATE, campaign, batch)
    return Following(Step.DISPATCH)


@step(Step.DISPATCH)
def dispatch(task: Task, campaign: int, batch: int) -> Following:
    """Hand over what is left, as far as credit goes."""
    work = runtime.take_up(campaign, batch)
    services = runtime.services_of(work.campaign)
    return stages.dispatch(
        runtime.database(), work, services, author(task), last_try=is_last_try(task)
    )


@step(Step.SUBMIT)
def submit(task: Task, campaign: int, batch: int) -> Following | None:
    """Give the gateway what waits for it."""
    work = runtime.take_up(campaign, batch)
    gateway = runtime.gateway_of(work.campaign)
    throttle = runtime.throttle_of(work.campaign)
    return stages.submit(runtime.database(), work, gateway, throttle, author(task))


@step(Step.DELIVER)
def deliver(task: Task, campaign: int, batch: int) -> Following | None:
    """Take the receipts that are due."""
    work = runtime.take_up(campaign, batch)
    gateway = runtime.gateway_of(work.campaign)
    return stages.deliver(runtime.database(), work, gateway, author(task))


@step(Step.ENGAGE)
def engage(task: Task, campaign: int, batch: int) -> Following | None:
    """Record what recipients did with what was delivered."""
    work = runtime.take_up(campaign, batch)
    gateway = runtime.gateway_of(work.campaign)
    return stages.engage(runtime.database(), work, gateway, author(task))
