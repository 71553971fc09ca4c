"""Steps in any order, repeated, torn off or never done: what comes of the messages is the same.

The real stages on a real database. A schedule is a list of what is done to two batches, in any
order whatever; after it every batch is taken to its end, as the sweep would.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from simulator import ledger
from simulator.comparison import compare
from simulator.gateway import SimulatedGateway
from simulator.invariants import INVARIANTS
from simulator.load import Loaded, Run, record_run
from simulator.oracle import allowances
from simulator.run import open_database
from tests.factory import Outrun
from tests.playing import batches_of, campaign_of, do, scenario_of, settle
from tracker import audit
from tracker.catalog import Batch
from tracker.database import Database
from tracker.report import make_reports
from tracker.settings import load_settings
from tracker.status import Reason, Status, Step
from workers.following import Following
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

    def do(self, step: Step, number: int, database: Database | None = None) -> Following | None:
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


STEPS = (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH, Step.SUBMIT, Step.DELIVER)

steps, numbers = st.sampled_from(STEPS), st.integers(0, 1)
acts = st.one_of(
    st.builds(Act, steps, numbers, st.booleans()),
    st.builds(Act, steps, numbers, outrun_by=steps),
)

in_order = st.builds(
    lambda batch, length: [Act(step, batch) for step in STEPS[:length]],
    numbers,
    st.integers(1, len(STEPS)),
)
"""A batch that gets some of the way, so that what comes after finds something to spoil."""

schedules = st.lists(st.one_of(acts.map(lambda act: [act]), in_order), max_size=6).map(
    lambda parts: [act for part in parts for act in part]
)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One database for all schedules: each makes a run of its own in it."""
    home = tmp_path_factory.mktemp("schedules")
    url = f"sqlite:///{home / 'schedules.db'}"
    with closing(open_database(load_settings(home=home, database_url=url))) as opened:
        sa.event.listen(opened.engine, "connect", not_to_disk)
        opened.engine.dispose()
        yield opened


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.services.PAUSES", (0.0, 0.0))


def not_to_disk(connection: sqlite3.Connection, _record: object) -> None:
    """Killed workers leave their machine running, so nothing need outlive that."""
    connection.execute("PRAGMA synchronous = OFF")


def prepare(database: Database, seed: int, credit: int | None) -> tuple[Run, Worker]:
    """A campaign of two queued batches, with all that can go wrong and a gateway without delay."""
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
    return run, Worker(database, gateway, batches_of(database, run.campaigns[0], 2))


def check_outcome(database: Database, run: Run) -> None:
    """Hold what came of a run against every invariant and the oracle."""
    loaded: Loaded = run.campaigns[0]
    expected = allowances(run.scenario, [loaded.oracle])[None]
    with database.read() as connection:
        findings = audit.check(connection, [loaded.campaign], INVARIANTS)
        [report] = make_reports(connection, [loaded.campaign])
        comparison = compare(connection, loaded, credit_is_scarce=expected.credit_is_scarce)
    assert [finding for finding in findings if not finding.holds] == []
    assert comparison.differences == ()
    assert comparison.as_predicted == comparison.messages == 2 * SIZE
    assert report.having(Status.NOT_SENT, Reason.OUT_OF_CREDIT) == expected.withheld
    assert report.settled == 2 * SIZE


# Without the search for the shortest schedule, which would take longer than a test may.
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=set(Phase) - {Phase.shrink, Phase.explain},
)
@given(
    schedule=schedules,
    seed=st.integers(0, 1_000),
    credit=st.one_of(st.none(), st.integers(0, 2 * SIZE)),
)
def test_no_schedule_changes_what_becomes_of_a_message(
    sqlite: Database, schedule: list[Act], seed: int, credit: int | None
) -> None:
    run, worker = prepare(sqlite, seed, credit)
    for act in schedule:
        worker.act(act)
    for number in range(2):
        settle(sqlite, worker.batches[number])
        for step in STEPS:  # what is settled stays so, whoever comes late
            worker.do(step, number)
    check_outcome(sqlite, run)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_dies_before_its_commit_leaves_no_trace(sqlite: Database, step: Step) -> None:
    """Else the schedules above would prove less than they say."""
    run, worker = prepare(sqlite, 7, None)
    for earlier in STEPS[: STEPS.index(step)]:
        worker.do(earlier, 0)
    campaign = run.campaigns[0].campaign
    with sqlite.read() as connection:
        before = make_reports(connection, [campaign])[0].as_json()
    worker.act(Act(step, 0, killed=True))
    with sqlite.read() as connection:
        assert make_reports(connection, [campaign])[0].as_json() == before
        again = ledger.counts(connection, [campaign.id]).repeats
    for number in range(2):
        settle(sqlite, worker.batches[number])
    check_outcome(sqlite, run)
    with sqlite.read() as connection:
        repeats = ledger.counts(connection, [campaign.id]).repeats
    assert (again, repeats > 0) == (0, step is Step.SUBMIT)
