"""Run steps in any order: repeated, killed, or overtaken by another step."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from simulator.run.driver import record_acknowledgement
from simulator.setup.record import record_run
from simulator.setup.run import Run
from simulator.world.gateway import SimulatedGateway
from tests.support.factory import AUTHOR, OvertakenDatabase
from tests.support.inline_runs import build_campaign, build_scenario, run_step
from tracker.queries.next_step import NextStep
from tracker.record.catalog import Batch
from tracker.record.journal import enqueue_batch
from tracker.status import Step
from tracker.store.database import Database
from workers.gateways.base import Gateway as WorkersGateway

SIZE = 12
"""Messages of each of the two batches."""


class WorkerKilled(Exception):
    """The process of a worker was killed."""


@dataclass(frozen=True)
class KillingDatabase(Database):
    """A database whose writer is killed just before it commits; some commits before may pass."""

    passing: list[None]

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as connection:
            yield connection
            if not self.passing:
                raise WorkerKilled
            self.passing.pop()


@dataclass
class InlineWorker:
    """A worker that runs steps on the batches of one campaign, as tasks do."""

    database: Database
    gateway: WorkersGateway
    batches: list[Batch]

    def run_step(
        self, step: Step, number: int, database: Database | None = None
    ) -> NextStep | None:
        """Run a step on a batch, and return the next one."""
        return run_step(database or self.database, self.batches[number], step, self.gateway)

    def run_scheduled(self, scheduled: "ScheduledStep") -> None:
        """Run a step of a schedule. What a gateway accepted before a kill stays accepted."""
        database = self.database
        if scheduled.killed:
            database = KillingDatabase(self.database.engine, [None] * scheduled.after)
        elif scheduled.overtaken_by is not None:
            other, number = scheduled.overtaken_by, scheduled.batch
            database = OvertakenDatabase(
                self.database.engine,
                [lambda: self.run_step(other, number), *[lambda: None] * scheduled.after],
            )
        with suppress(WorkerKilled):
            self.run_step(scheduled.step, scheduled.batch, database)


@dataclass(frozen=True)
class ScheduledStep:
    """A step on a batch, which may be killed before it commits, or be overtaken by another step.

    The other step runs on the same batch between the reading and the writing of this one.

    Attributes:
        after: commits of this step that come before; `submit` has one before it calls the gateway.
    """

    step: Step
    batch: int
    killed: bool = False
    overtaken_by: Step | None = None
    after: int = 0


def prepare_run(
    database: Database, seed: int, credit: int | None, *, batches: int = 2
) -> tuple[Run, InlineWorker]:
    """Return a run with every kind of failure, and a worker; queue some of its two batches."""
    spring = build_campaign(
        audience=2 * SIZE,
        requires=("coupon",),
        defects={
            "unsubscribed": 0.1,
            "email_missing": 0.05,
            "coupon_expired": 0.1,
            "coupon_issue": 0.05,
            "timeout": 0.05,
        },
    )
    scenario = build_scenario(
        spring,
        seed=seed,
        organization={"credit": credit},
        gateways={
            "email": {"hard_bounce": 0.1, "soft_bounce": 0.4, "not_delivered": 0.1, "attempts": 3}
        },
        services={name: {"error_rate": 0.1} for name in ("subscription", "coupon", "handler")},
    )
    run = record_run(database, scenario, Path(), lambda _: None)
    campaign = run.campaigns[0].campaign
    gateway = SimulatedGateway(campaign.gateway_settings, database)
    queued = [queue_batch(database, run, number) for number in range(batches)]
    return run, InlineWorker(database, gateway, queued)


def queue_batch(database: Database, run: Run, number: int) -> Batch:
    """Queue a batch of the run as the driver does."""
    campaign = run.campaigns[0].campaign
    batch = enqueue_batch(
        database, campaign, batch=number, first=number * SIZE, size=SIZE, author=AUTHOR
    )
    record_acknowledgement(database, batch)
    return batch
