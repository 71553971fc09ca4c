"""Steps in any order, repeated, killed or outrun."""

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


class Killed(Exception):
    """The worker's process is gone."""


@dataclass(frozen=True)
class Dying(Database):
    """A database whose user is killed just before what it wrote is committed."""

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as connection:
            yield connection
            raise Killed


@dataclass
class Worker:
    """Does steps on the batches of one campaign, as the tasks would."""

    database: Database
    gateway: WorkersGateway
    batches: list[Batch]

    def do(self, step: Step, number: int, database: Database | None = None) -> NextStep | None:
        """A step on a batch, and what follows it."""
        return do(database or self.database, self.batches[number], step, self.gateway)

    def act(self, act: "Act") -> None:
        """Do what a schedule says. Who is killed leaves the gateway with what it has accepted."""
        database = self.database
        if act.killed:
            database = Dying(self.database.engine)
        elif act.outrun_by is not None:
            other, number = act.outrun_by, act.batch
            database = Outrun(self.database.engine, [lambda: self.do(other, number)])
        with suppress(Killed):
            self.do(act.step, act.batch, database)


@dataclass(frozen=True)
class Act:
    """A step on a batch. It may be killed before it commits, or outrun: by another step on the
    batch, which somebody does between its reading and its writing."""

    step: Step
    batch: int
    killed: bool = False
    outrun_by: Step | None = None


def prepare(
    database: Database, seed: int, credit: int | None, *, batches: int = 2
) -> tuple[Run, Worker]:
    """A campaign of two batches, so many of them queued, with all that can go wrong and a gateway
    without delay."""
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
    """A batch of the run, queued as the driver does it."""
    campaign = run.campaigns[0].campaign
    batch = enqueue_batch(
        database, campaign, batch=number, first=number * SIZE, size=SIZE, author=AUTHOR
    )
    record_acknowledgement(database, batch)
    return batch
