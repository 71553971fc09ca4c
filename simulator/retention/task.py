"""The Celery task that beat starts once a day, if SENDTRACE_PRUNE_OLDER_THAN is set."""

import logging
import time
from itertools import chain

from celery import shared_task

from tracker.output.logs import LogFields
from tracker.settings import load_settings
from workers.queues import PRUNE_TASK
from workers.runtime import resources
from workers.transient import TRANSIENT_ERRORS

logger = logging.getLogger(__name__)

SLICE_SECONDS = 60.0
"""Time for which one task works; well below Celery's time limit."""


@shared_task(name=PRUNE_TASK)  # type: ignore[untyped-decorator]  # Celery has no types
def prune() -> None:
    """Delete runs that ended longer ago than the setting says.

    After a minute it leaves the rest to a further task, so that the sweep gets its turn. A failed
    task isn't retried: the next one is due in a day, and goes on.
    """
    # Imported here, because most tasks of a worker are others.
    from simulator.retention.prune import prune_runs
    from simulator.retention.selection import RunSelection, find_prunable_runs

    settings, database = load_settings(), resources().database
    if settings.prune_age is None:
        return
    started = time.monotonic()
    try:
        run_ids = find_prunable_runs(database, RunSelection(older_than=settings.prune_age))
        if run_ids:
            logger.info("pruning runs: %s", LogFields(runs=len(run_ids), first=run_ids[0]))
        deletion = prune_runs(database, settings, run_ids)
        for _ in chain(deletion, database.release_space()):
            if time.monotonic() - started > SLICE_SECONDS:
                prune.delay()
                return
    except TRANSIENT_ERRORS as error:
        logger.warning("prune failed: %s", LogFields(error=error))
