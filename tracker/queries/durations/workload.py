"""Read how long batches waited for each step, and how long the steps took."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_real_seconds
from tracker.queries.durations.latencies import Latencies
from tracker.status import Step
from tracker.store.arrays import read_columns
from tracker.store.schema.work import steps

STEP_CODES = {step: code for code, step in enumerate(Step)}
"""Numbers that stand for the steps in a column of whole numbers."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The work that was done in one step.

    Attributes:
        tasks: number of tasks that changed something.
        moved: number of messages whose status they changed.
        waiting: real time of each task from the end of its batch's previous step. It is spent in
            the queue and, before `deliver`, also in the gateway.
        service: real time of each task from its start to its end.
    """

    step: Step
    tasks: int
    moved: int
    waiting: Latencies
    service: Latencies


def read_workloads(
    connection: Connection, campaign_ids: Sequence[int], speed: float
) -> list[Workload]:
    """Return the workload of each step, summed over campaigns of a run with a clock `speed`."""
    previous_end = sa.func.lag(steps.c.finished_at, 1, steps.c.started_at).over(
        partition_by=(steps.c.campaign_id, steps.c.batch), order_by=steps.c.id
    )
    code = sa.case(*((steps.c.step == step.value, code) for step, code in STEP_CODES.items()))
    codes, moved, waiting, service = read_columns(
        connection,
        sa.select(
            code.label("code"),
            steps.c.moved,
            (steps.c.started_at - previous_end).label("waiting"),
            (steps.c.finished_at - steps.c.started_at).label("service"),
        ).where(steps.c.campaign_id.in_(campaign_ids)),
    )
    workloads = []
    for step in Step:
        is_step = codes == STEP_CODES[step]
        # On the clock of another computer, a step may start before the previous one has ended.
        waited = np.maximum(waiting[is_step], 0)
        workloads.append(
            Workload(
                step=step,
                tasks=int(np.count_nonzero(is_step)),
                moved=int(moved[is_step].sum()),
                waiting=Latencies(np.rint(waited / speed).astype(np.int64)),
                service=Latencies(np.rint(service[is_step] / speed).astype(np.int64)),
            )
        )
    return workloads


def read_step_seconds(
    connection: Connection, campaign_ids: Sequence[int], speed: float, until: Instant
) -> dict[Step, float]:
    """Return the real seconds that the tasks of each step took which began before an instant."""
    rows = connection.execute(
        sa.select(steps.c.step, sa.func.sum(steps.c.finished_at - steps.c.started_at))
        .where(steps.c.campaign_id.in_(campaign_ids), steps.c.started_at < until)
        .group_by(steps.c.step)
    )
    return {Step(step): to_real_seconds(float(micros), speed) for step, micros in rows}
