"""Where the time goes: how long batches waited for each step, and how long it took, from the steps
that are on record."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.queries.latencies import Latencies
from tracker.status import Step
from tracker.store.arrays import read_columns
from tracker.store.schema.work import steps

STEP_CODES = {step: code for code, step in enumerate(Step)}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What was done in a step: by how many tasks that changed something, for how many messages.

    ``waiting`` is from the end of the batch's step before it: in the queue, and for receipts also
    what the gateway takes. ``service`` is the step itself. Both are real time, one for each task.
    """

    step: Step
    tasks: int
    moved: int
    waiting: Latencies
    service: Latencies


def read_workloads(
    connection: Connection, campaign_ids: Sequence[int], speed: float
) -> list[Workload]:
    """The workload of each step of campaigns whose clock runs at ``speed``."""
    before = sa.func.lag(steps.c.finished_at, 1, steps.c.started_at).over(
        partition_by=(steps.c.campaign_id, steps.c.batch), order_by=steps.c.id
    )
    codes, moved, waiting, service = read_columns(
        connection,
        sa.select(
            sa.case(
                *((steps.c.step == step.value, code) for step, code in STEP_CODES.items())
            ).label("code"),
            steps.c.moved,
            (steps.c.started_at - before).label("waiting"),
            (steps.c.finished_at - steps.c.started_at).label("service"),
        ).where(steps.c.campaign_id.in_(campaign_ids)),
    )
    found = []
    for step in Step:
        of = codes == STEP_CODES[step]
        found.append(
            Workload(
                step=step,
                tasks=int(np.count_nonzero(of)),
                moved=int(moved[of].sum()),
                # A step may begin before the one before it has ended, on another computer's clock.
                waiting=Latencies(np.rint(np.maximum(waiting[of], 0) / speed).astype(np.int64)),
                service=Latencies(np.rint(service[of] / speed).astype(np.int64)),
            )
        )
    return found
