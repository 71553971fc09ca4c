"""Enqueue steps: the arguments of their tasks, and the chain of the steps before the gateway.

The driver, the workers, the sweep and the inbound API all enqueue through this module.
"""

import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from celery import Celery, chain
from celery.canvas import Signature
from celery.signals import before_task_publish

from tracker.clock import Instant
from tracker.queries.next_step import CHECK_CHAIN, MAX_COUNTDOWN
from tracker.record.catalog import Campaign
from tracker.status import Step
from workers.queues import format_task_arguments, task_name

DUE_AT_HEADER = "sendtrace_due_at"
"""Header of a task with the real time in seconds from which a worker may take it."""


@dataclass(frozen=True, kw_only=True)
class StepArguments:
    """The keyword arguments of a step's task.

    Attributes:
        is_retry: whether the step may have failed on the batch, or killed its process, before.
        is_one_off: whether the batch has another task, so nothing follows this one.
        unavailable_count: how many times in a row the gateway was unavailable.
        unavailable_since: time of the first of these failures, on the run's clock.
        refund_first: the first message of the segment whose latest try doesn't count, if any.
    """

    campaign: int
    batch: int
    is_retry: bool = False
    is_one_off: bool = False
    unavailable_count: int = 0
    unavailable_since: Instant | None = None
    refund_first: int | None = None

    def first_try(self) -> "StepArguments":
        """Return the arguments of a first try on the same batch."""
        return StepArguments(campaign=self.campaign, batch=self.batch)

    def to_kwargs(self) -> dict[str, int]:
        """Return the batch's key, and the other arguments that differ from their defaults."""
        defaults = asdict(self.first_try())
        return {"campaign": self.campaign, "batch": self.batch} | {
            name: value for name, value in asdict(self).items() if value != defaults[name]
        }


def make_signature(
    app: Celery, step: Step, arguments: StepArguments, campaign: Campaign
) -> Signature:
    """Return the task of a step, and behind it those of the chain that the step belongs to.

    The chain starts at `step` and ends with dispatch. The steps at the gateway are single tasks:
    what follows them depends on what the gateway says.
    """
    steps = CHECK_CHAIN[CHECK_CHAIN.index(step) :] if step in CHECK_CHAIN else (step,)
    kwargsrepr = format_task_arguments(
        arguments.campaign, arguments.batch, campaign.name, campaign.run_id
    )
    signatures = [
        app.signature(
            task_name(chained),
            kwargs=(arguments if chained is step else arguments.first_try()).to_kwargs(),
            options={"kwargsrepr": kwargsrepr},
            immutable=True,
        )
        for chained in steps
    ]
    return chain(*signatures)


@before_task_publish.connect  # type: ignore[untyped-decorator]  # Celery has no types
def note_due_time(headers: dict[str, Any], **_: object) -> None:
    """Note in a task when a worker may take it: when it is published, or at the end of its delay.

    Each publication notes it anew, also that of a retry.
    """
    eta = headers.get("eta")
    headers[DUE_AT_HEADER] = datetime.fromisoformat(eta).timestamp() if eta else time.time()


def read_wait_seconds(request: Any) -> float | None:
    """Return for how long a task had to wait for a worker; None if that isn't known."""
    due_at = request.get(DUE_AT_HEADER)
    return None if due_at is None else max(0.0, time.time() - due_at)


def enqueue_step(
    app: Celery,
    step: Step,
    arguments: StepArguments,
    campaign: Campaign,
    *,
    delay: timedelta = timedelta(),
    retry: bool = True,
) -> None:
    """Enqueue a step of a batch; a step before the gateway takes the rest of its chain along.

    The `delay` is real time. At most MAX_COUNTDOWN of it is waited: the broker gives a task that a
    worker holds for longer to another worker. Unless `retry`, an unavailable broker is an error at
    once.
    """
    signature = make_signature(app, step, arguments, campaign)
    signature.apply_async(countdown=countdown(delay), retry=retry)


def countdown(delay: timedelta) -> float | None:
    """Return a delay as Celery's countdown in seconds, or None to run the task at once."""
    return min(delay, MAX_COUNTDOWN).total_seconds() or None
