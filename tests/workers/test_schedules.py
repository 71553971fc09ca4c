"""Steps in any order, repeated, killed or lost: the messages end the same way.

The real steps on a real database. A schedule is what driver, broker, workers and sweep do to two
batches, in any order. After it the sweep re-queues the batches until they settle. `make schedules`
plays two thousand of them.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import ClassVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from simulator.oracle.credit import predict_withheld
from simulator.oracle.oracle import build_oracles
from simulator.results.invariants import INVARIANTS
from simulator.results.prediction_check import check_prediction
from simulator.schema import open_database
from simulator.setup.run import Run, RunCampaign
from simulator.world import ledger
from tests.support.inline_runs import settle_batch
from tests.support.schedules import SIZE, ScheduledStep, prepare_run, queue_batch
from tracker.audit import invariants
from tracker.queries.next_step import next_step
from tracker.queries.report import make_reports
from tracker.queries.stalled import find_idle_batches
from tracker.settings import load_settings
from tracker.status import Reason, Status, Step
from tracker.store.database import Database

pytestmark = pytest.mark.usefixtures("no_retry_delay")

MAX_IDLE_SWEEPS = 500
"""Sweeps in a row that may find nothing while work is left: no batch has to wait here. They take
half a second, as hypothesis plays many failing schedules until it has found the shortest one."""

STEPS = (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH, Step.SUBMIT, Step.DELIVER)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One database for all schedules: each makes a run of its own in it."""
    home = tmp_path_factory.mktemp("schedules")
    url = f"sqlite:///{home / 'schedules.db'}"
    with closing(open_database(load_settings(home=home, database_url=url))) as opened:
        sa.event.listen(opened.engine, "connect", not_to_disk)
        opened.engine.dispose()
        yield opened


def not_to_disk(connection: sqlite3.Connection, _record: object) -> None:
    """Skip fsync: killed workers leave their machine running."""
    connection.execute("PRAGMA synchronous = OFF")


def check_outcome(database: Database, run: Run) -> None:
    """Check a run against every invariant and the oracle."""
    loaded: RunCampaign = run.campaigns[0]
    [oracle] = build_oracles(run.campaigns)
    expected = predict_withheld([oracle])[None]
    with database.read() as connection:
        findings = invariants.check_invariants(connection, [loaded.campaign], INVARIANTS)
        [report] = make_reports(connection, [loaded.campaign])
        scarce = expected.scarce_channels
        comparison = check_prediction(connection, loaded, oracle, scarce_channels=scarce)
    assert [finding for finding in findings if not finding.is_satisfied] == []
    assert comparison.differences == ()
    assert comparison.matching == comparison.messages == 2 * SIZE
    assert report.count_messages(Status.NOT_SENT, Reason.OUT_OF_CREDIT) == expected.withheld
    assert report.settled == 2 * SIZE


class Schedules(RuleBasedStateMachine):
    """A driver that records batches, a broker that loses or repeats tasks, workers that die."""

    database: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[int, Step]] = []
        """The tasks in the broker: a batch, and the step to run. A chain has one at a time."""

    @initialize(seed=st.integers(0, 1_000), credit=st.none() | st.integers(0, 2 * SIZE))
    def begin(self, seed: int, credit: int | None) -> None:
        self.run, self.worker = prepare_run(self.database, seed, credit, batches=0)

    @precondition(lambda self: len(self.worker.batches) < 2)
    @rule(reaches_the_broker=st.booleans())
    def record(self, reaches_the_broker: bool) -> None:
        """Record the next batch as the driver does, which may die before it enqueues it."""
        number = len(self.worker.batches)
        self.worker.batches += [queue_batch(self.database, self.run, number)]
        if reaches_the_broker:
            self.waiting.append((number, Step.SUPPRESS))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), stays=st.booleans(), goes_on=st.booleans())
    def work(self, data: st.DataObject, stays: bool, goes_on: bool) -> None:
        """Run a task, which may be delivered again; the task that follows it may be lost."""
        task = data.draw(st.sampled_from(self.waiting))
        following = self.worker.run_step(task[1], task[0])
        if not stays:
            self.waiting.remove(task)
        if following is not None and goes_on:
            self.waiting.append((task[0], following.step))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), stays=st.booleans(), after=st.integers(0, 1))
    def die(self, data: st.DataObject, stays: bool, after: int) -> None:
        """Kill a worker before it commits; the gateway keeps what it accepted."""
        task = data.draw(st.sampled_from(self.waiting))
        self.worker.run_scheduled(ScheduledStep(task[1], task[0], killed=True, after=after))
        if not stays:
            self.waiting.remove(task)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), by=st.sampled_from(STEPS), after=st.integers(0, 1))
    def overtake(self, data: st.DataObject, by: Step, after: int) -> None:
        """Run another step on the batch between a task's reading and its writing."""
        number, step = data.draw(st.sampled_from(self.waiting))
        self.worker.run_scheduled(ScheduledStep(step, number, overtaken_by=by, after=after))

    @precondition(lambda self: self.worker.batches)
    @rule(data=st.data(), step=st.sampled_from(STEPS))
    def stray(self, data: st.DataObject, step: Step) -> None:
        """Deliver a task of long ago: any step on any batch."""
        self.worker.run_step(step, data.draw(st.integers(0, len(self.worker.batches) - 1)))

    @precondition(lambda self: self.worker.batches)
    @rule(data=st.data(), length=st.integers(1, len(STEPS)))
    def go_far(self, data: st.DataObject, length: int) -> None:
        """Run several steps on a batch, so that later rules find something to break."""
        number = data.draw(st.integers(0, len(self.worker.batches) - 1))
        for step in STEPS[:length]:
            self.worker.run_step(step, number)

    @rule()
    def forget(self) -> None:
        """Lose all tasks of the broker."""
        self.waiting.clear()

    @rule()
    def sweep(self) -> None:
        """Enqueue the next step of batches without a task, as the sweep does."""
        enqueued = {number for number, _ in self.waiting}
        campaign = self.run.campaigns[0].campaign
        with self.database.read() as connection:
            idle = find_idle_batches(connection, [campaign], timedelta())
        self.waiting += [(batch.batch, batch.step) for batch in idle if batch.batch not in enqueued]

    @invariant()
    def the_report_balances(self) -> None:
        with self.database.read() as connection:
            [report] = make_reports(connection, [self.run.campaigns[0].campaign])
        assert report.is_balanced

    def teardown(self) -> None:
        if not hasattr(self, "worker"):
            return
        while len(self.worker.batches) < 2:
            self.record(reaches_the_broker=False)
        self.waiting.clear()
        idle_sweeps = 0
        while any(next_step(self.database, batch) for batch in self.worker.batches):
            self.sweep()
            idle_sweeps = 0 if self.waiting else idle_sweeps + 1
            assert idle_sweeps < MAX_IDLE_SWEEPS, "the sweep re-queues batches until they settle"
            while self.waiting:
                number, step = self.waiting.pop()
                following = self.worker.run_step(step, number)
                if following is not None and following.step is not step:
                    self.waiting.append((number, following.step))
        for number in range(2):  # a late task changes no settled batch
            for step in STEPS:
                self.worker.run_step(step, number)
        check_outcome(self.database, self.run)


LONG = int(os.environ.get("SENDTRACE_TEST_SCHEDULES", "0"))
"""Schedules that `make schedules` plays. It also searches for the shortest one that fails."""


def test_no_schedule_changes_the_outcome_of_a_message(sqlite: Database) -> None:
    Schedules.database = sqlite
    run_state_machine_as_test(
        Schedules,
        settings=settings(
            max_examples=LONG or 25,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=set(Phase) - (set() if LONG else {Phase.shrink, Phase.explain}),
            print_blob=False,
        ),
    )


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_dies_before_its_commit_leaves_no_trace(sqlite: Database, step: Step) -> None:
    """Otherwise the schedules above would prove less than they claim."""
    run, worker = prepare_run(sqlite, 7, None)
    for earlier in STEPS[: STEPS.index(step)]:
        worker.run_step(earlier, 0)
    campaign = run.campaigns[0].campaign
    with sqlite.read() as connection:
        before = make_reports(connection, [campaign])[0].counts
    # `submit` has noted what it offers when it calls the gateway.
    after = 1 if step is Step.SUBMIT else 0
    worker.run_scheduled(ScheduledStep(step, 0, killed=True, after=after))
    with sqlite.read() as connection:
        assert make_reports(connection, [campaign])[0].counts == before
        again = ledger.count_ledger_events(connection, [campaign.id]).repeats
    for number in range(2):
        settle_batch(sqlite, worker.batches[number])
    check_outcome(sqlite, run)
    with sqlite.read() as connection:
        repeats = ledger.count_ledger_events(connection, [campaign.id]).repeats
    assert (again, repeats > 0) == (0, step is Step.SUBMIT)
