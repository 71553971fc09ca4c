"""The log of Celery's processes: our format, and in each task's lines what the task works on."""

import logging
import re
import warnings
from collections.abc import Mapping
from typing import Any

from celery.exceptions import CPendingDeprecationWarning, Reject
from celery.signals import setup_logging, task_postrun, task_prerun

from tracker.output.logs import configure_logging, set_log_context
from tracker.settings import load_settings
from workers.queues import SWEEP_TASK, TASK_PREFIX
from workers.upkeep.broker import parse_batch_key

TASK_LOGGERS = ("celery.worker.strategy", "celery.app.trace", "celery.worker.request")
"""The loggers of Celery's lines about single tasks."""

_RUN_PATTERN = re.compile(r"'run': (\d+)")


def connect() -> None:
    """Have Celery's processes log in our format from now on."""
    # Celery advises against root since pickled tasks may run any code. Ours are JSON only.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    setup_logging.connect(_set_up_process_log)
    task_prerun.connect(_begin_task)
    task_postrun.connect(_end_task)
    logging.getLogger("py.warnings").addFilter(_drop_plans_of_celery)
    for name in (*TASK_LOGGERS, "celery.beat"):
        logger = logging.getLogger(name)
        logger.addFilter(_drop_routine_sweeps)
        logger.addFilter(_drop_returned_tasks)
        logger.addFilter(_add_task_fields)


def read_task_fields(task_id: str, task: str, arguments: str) -> Mapping[str, object]:
    """Return the log fields of a task: campaign, batch, step, task and run, as far as they apply.

    Args:
        arguments: the task's arguments as `format_task_arguments` writes them.
    """
    fields: dict[str, object] = {}
    key = parse_batch_key(arguments.encode(errors="replace"))
    if key is not None:
        fields["campaign"], fields["batch"] = key
    fields["step"], fields["task"] = task.removeprefix(TASK_PREFIX), task_id
    run = _RUN_PATTERN.search(arguments)
    return fields if run is None else {**fields, "run": int(run[1])}


def _drop_plans_of_celery(record: logging.LogRecord) -> bool:
    """Drop warnings of Celery's next version: one explains a setting whenever the broker is lost.

    They are dropped here, because Celery enables them after it has set up its log.
    """
    return CPendingDeprecationWarning.__name__ not in record.getMessage()


def _set_up_process_log(**_: object) -> None:
    configure_logging(load_settings())


def _begin_task(task_id: str, task: Any, kwargs: Mapping[str, Any], **_: object) -> None:
    arguments = task.request.get("kwargsrepr") or repr(kwargs)
    set_log_context(read_task_fields(task_id, task.name, arguments))


def _end_task(**_: object) -> None:
    set_log_context({})


def _drop_routine_sweeps(record: logging.LogRecord) -> bool:
    """Drop the lines of sweeps that start and succeed; there is one every two seconds."""
    return record.levelno > logging.INFO or SWEEP_TASK not in record.getMessage()


def _drop_returned_tasks(record: logging.LogRecord) -> bool:
    """Drop Celery's tracebacks of tasks given back; see `workers.upkeep.schema_change`."""
    return record.exc_info is None or not isinstance(record.exc_info[1], Reject)


def _add_task_fields(record: logging.LogRecord) -> bool:
    data = getattr(record, "data", None)
    if isinstance(data, Mapping) and "id" in data and "name" in data:
        record.fields = read_task_fields(data["id"], data["name"], str(data.get("kwargs")))
    return True
