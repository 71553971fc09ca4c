"""The queues: one a stage, the broker they are in, and how much waits in each."""

from types import MappingProxyType

from tracker.status import Step

QUEUE_BY_STEP = MappingProxyType(
    {
        Step.SUPPRESS: "queued",
        Step.VALIDATE: "queued",
        Step.DISPATCH: "queued",
        Step.SUBMIT: "about_to_be_sent",
        Step.DELIVER: "gateway",
        Step.ENGAGE: "delivery",
    }
)
"""The queue that a step's tasks are sent to."""

UPKEEP_QUEUE = "upkeep"
"""The queue of what is done for all campaigns from time to time."""

ROLLUP_TASK = "workers.rollup"
"""The name of the Celery task that rolls engagement up."""

QUEUES = (*dict.fromkeys(QUEUE_BY_STEP.values()), UPKEEP_QUEUE)
"""Every queue that a worker must serve, in the order of the stages."""


SWEEP_TASK = "workers.sweep"
"""The name of the Celery task that sends on batches that stand still."""

SWEEP_INTERVAL_SECONDS = 2.0
"""Seconds between two of them."""


def task_name(step: Step) -> str:
    """The name of the Celery task that does a step."""
    return f"workers.{step}"


def format_task_arguments(campaign_id: int, name: str, batch: int) -> str:
    """What Flower shows of a task's arguments, and finds it by: ``kwargs:name=diwali-email``."""
    return repr({"campaign": campaign_id, "batch": batch, "name": name})
