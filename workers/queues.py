"""Names of the queues and of the tasks."""

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
"""The queue of each step's tasks: the stage that the step serves."""

UPKEEP_QUEUE = "upkeep"
"""The queue of the tasks that serve all campaigns."""

QUEUES = (*dict.fromkeys(QUEUE_BY_STEP.values()), UPKEEP_QUEUE)
"""Every queue that a worker must serve, in the order of the stages."""

TASK_PREFIX = "workers."

ROLLUP_TASK = f"{TASK_PREFIX}rollup"

SWEEP_TASK = f"{TASK_PREFIX}sweep"

PRUNE_TASK = f"{TASK_PREFIX}prune"
"""Name of the task that deletes old runs; `celeryconfig.py` names the module that has it."""

SWEEP_INTERVAL_SECONDS = 2.0


def task_name(step: Step) -> str:
    """Return the name of a step's task."""
    return f"{TASK_PREFIX}{step}"


TASK_NAMES = frozenset(map(task_name, QUEUE_BY_STEP))
"""The names of the tasks that run steps."""


def format_task_arguments(campaign: int, batch: int, name: str, run: int) -> str:
    """Return a task's arguments as Flower shows and finds them: `kwargs:name=diwali-email`.

    The sweep reads the batch's key from the same text, see `workers.upkeep.broker.BATCH_PATTERN`.
    """
    return repr({"campaign": campaign, "batch": batch, "name": name, "run": run})
