"""Run steps in any order: repeated, killed, or overtaken by another step."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from simulator.run.driver import record_acknowledgement
from simulator.setup.record import Run, record_run
from simulator.world.gateway import SimulatedGateway
from tests.support.factory import AUTHOR, Outrun
from tests.support.playing import campaign_of, do, scenario_of
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
    """A database whose writer is killed just before it commits."""

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as connection:
            yield connection
            raise WorkerKilled


@dataclass
class Worker:
    """Runs steps on the batches of one campaign, as tasks do."""

    database: Database
    gateway: WorkersGateway
    batches: list[Batch]

    def do(self, step: Step, number: int, database: Database | None = None) -> NextStep | None:
        """Run a step on a batch, and return the next one."""
        return do(database or self.database, self.batches[number], step, self.gateway)

    def act(self, act: "Act") -> None:
        """Run a step of a schedule. What a gateway accepted before a kill stays accepted."""
        database = self.database
        if act.killed:
            database = KillingDatabase(self.database.engine)
        elif act.outrun_by is not None:
            other, number = act.outrun_by, act.batch
            database = Outrun(self.database.engine, [lambda: self.do(other, number)])
        with suppress(WorkerKilled):
            self.do(act.step, act.batch, database)


@dataclass(frozen=True)
class Act:
    """A step on a batch, which may be killed before it commits, or be overtaken by another step.

    The other step runs on the same batch between the reading and the writing of this one.
    """

    step: Step
    batch: int
    killed: bool = False
    outrun_by: Step | None = None


def prepare(
    database: Database, seed: int, credit: int | None, *, batches: int = 2
) -> tuple[Run, Worker]:
    """Return a run with every kind of failure, and a worker; queue some of its two batches."""
    spring = campaign_of(
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
    scenario = scenario_of(
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
    return run, Worker(database, gateway, queued)


def queue_batch(database: Database, run: Run, number: int) -> Batch:
    """Queue a batch of the run as the driver does."""
    campaign = run.campaigns[0].campaign
    batch = enqueue_batch(
        database, campaign, batch=number, first=number * SIZE, size=SIZE, author=AUTHOR
    )
    record_acknowledgement(database, batch)
    return batch
