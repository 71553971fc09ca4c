"""A run is resumed by one driver, which knows the pause and what was before it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa

from simulator.pages.result_page import render_result_page
from simulator.pages.result_text import format_result
from simulator.results.archive.run_list import list_runs, make_run_row
from simulator.results.archive.store import store_result
from simulator.results.observations import DriverObservations, RunObservations, RunState
from simulator.results.result import RunResult, judge_run
from simulator.retry import Outages
from simulator.run.abort import AbortCheck
from simulator.run.driver_record import load_drivers
from simulator.run.judge import RecordedRun, RunIsAlive
from simulator.run.resume import (
    ResumeOptions,
    RunIsFinished,
    claim_run,
    load_resumable_run,
    plan_resumption,
    resume,
)
from simulator.setup.heartbeat import keep_alive
from simulator.setup.run import Run
from tests.support.factory import run_concurrently
from tests.support.inline_runs import enqueue_campaign, settle_batch
from tests.support.recorded_runs import (
    CONDITIONS,
    KILLED_SECONDS,
    OPTIONS,
    end_driver,
    kill_driver,
    start_recorded_run,
)
from tests.support.shell import wait_until
from tracker.campaign_states import CampaignState
from tracker.clock import from_seconds, to_seconds
from tracker.errors import NotFound, UsageError
from tracker.queries.campaign_state import read_run_states
from tracker.record.registration import RunSuperseded, record_heartbeat
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.store.schema.catalog import runs

SCENARIO = """
name = "resumed"
seed = 5

[clock]
speed = 10

[[campaigns]]
name = "spring"
channel = "sms"
audience = 30

[[faults]]
at = "5s"
restart = "worker"

[[faults]]
at = "1h"
kill = "worker"

[thresholds]
abort = true
"queued_to_gateway.p95" = "< 1h"
"delivered.share" = "> 0.1"
"""


@pytest.fixture(autouse=True)
def pretend_server_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests' server, which has just started, count as running for long."""
    monkeypatch.setattr("tracker.queries.campaign_state.server_start", lambda: sa.literal(0))


@pytest.fixture
def run(database: Database, settings: Settings) -> Run:
    """Return a run whose clock runs at ten times the speed; it started a minute ago."""
    run = start_recorded_run(database, SCENARIO, settings.home)
    started_at = run.started_at - from_seconds(60)
    with database.write() as connection:
        connection.execute(sa.update(runs).where(runs.c.id == run.id).values(started_at=started_at))
    return run


def load(database: Database, run: Run) -> RecordedRun:
    return load_resumable_run(database, run.id)


def claim(database: Database, recorded: RecordedRun) -> Run:
    return claim_run(database, Outages(), recorded, OPTIONS, CONDITIONS)


def read_state(database: Database, run: Run) -> CampaignState:
    with database.read() as connection:
        return read_run_states(connection, [run.id])[run.id]


def assert_has_grown(duration: int, shortest: float, since: float) -> None:
    """Assert that a duration of the run's clock has grown from `shortest` since an instant."""
    assert shortest <= to_seconds(duration) <= shortest + 10 * (time.time() - since)


def test_a_resumed_run_knows_its_pause(database: Database, run: Run) -> None:
    before = time.time()
    kill_driver(database, run)
    with database.read() as connection:
        driven = connection.scalars(sa.select(runs.c.heartbeat_at - runs.c.started_at)).one()
    resumed = claim(database, load(database, run))
    resumption = resumed.resumption
    assert resumption is not None
    assert resumption.number == 1
    pause = 10 * KILLED_SECONDS
    assert_has_grown(resumption.paused, pause, before)
    assert_has_grown(resumption.elapsed, 10 * to_seconds(driven), before)
    assert [str(fault.at) for fault in resumed.pending_faults] == ["1:00:00"]
    assert {campaign.delay for campaign in resumed.campaigns} == {resumption.paused}
    assert read_state(database, run) is CampaignState.SCHEDULED, "nothing is queued yet"
    before = time.time()
    kill_driver(database, run)
    again = plan_resumption(database, load(database, run)).resumption
    assert again is not None
    assert again.number == 2
    assert_has_grown(again.paused - resumption.paused, pause, before)


def test_the_pause_of_a_run_that_was_given_up_begins_with_that(
    database: Database, run: Run
) -> None:
    before = time.time()
    end_driver(database, run, CampaignState.INTERRUPTED)
    earlier = runs.c.given_up_at - from_seconds(KILLED_SECONDS)
    with database.write() as connection:
        connection.execute(sa.update(runs).values(given_up_at=earlier))
        record_heartbeat(connection, run.id, run.driver_number)
    resumption = plan_resumption(database, load(database, run)).resumption
    assert resumption is not None
    assert_has_grown(resumption.paused, 10 * KILLED_SECONDS, before)


@pytest.mark.parametrize("state", [CampaignState.INTERRUPTED, CampaignState.ABORTED])
def test_a_run_that_was_given_up_is_running_again(
    database: Database, run: Run, state: CampaignState
) -> None:
    enqueue_campaign(database, run.campaigns[0])
    end_driver(database, run, state)
    claim(database, load(database, run))
    assert read_state(database, run) is CampaignState.RUNNING


def test_a_run_that_can_not_be_resumed_is_refused(database: Database, run: Run) -> None:
    with pytest.raises(RunIsAlive, match="may have a living driver"):
        load(database, run)
    end_driver(database, run, CampaignState.FINISHED)
    with pytest.raises(RunIsFinished, match=f"run {run.id} is finished: nothing is left to resume"):
        load(database, run)
    with pytest.raises(NotFound):
        load(database, replace(run, id=run.id + 1))


def test_only_one_of_several_drivers_resumes_a_run(database: Database, run: Run) -> None:
    kill_driver(database, run)
    recorded = load(database, run)

    def try_claim() -> bool:
        try:
            claim(database, recorded)
        except RunIsAlive:
            return False
        return True

    assert sorted(run_concurrently(try_claim, try_claim)) == [False, True]
    with database.read() as connection:
        assert len(load_drivers(connection, run.id)) == 2


def test_a_claim_is_accepted_after_a_lost_connection_hid_its_commit(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = time.time()
    kill_driver(database, run)
    recorded = load(database, run)
    write, losses = Database.write, [sa.exc.OperationalError("COMMIT", {}, Exception("lost"))]

    @contextmanager
    def lose_first_reply(self: Database) -> Iterator[sa.Connection]:
        with write(self) as connection:
            yield connection
        if losses:
            raise losses.pop()

    monkeypatch.setattr(Database, "write", lose_first_reply)
    resumption = claim(database, recorded).resumption
    assert not losses
    assert resumption is not None
    assert_has_grown(resumption.paused, 10 * KILLED_SECONDS, before)
    with pytest.raises(RunIsAlive):
        claim(database, recorded)


def test_a_driver_that_returns_after_a_resume_stops(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulator.setup.heartbeat.HEARTBEAT_INTERVAL_SECONDS", 0.01)
    kill_driver(database, run)
    claim(database, load(database, run))
    kill_driver(database, run)

    def is_superseded() -> bool:
        try:
            heartbeat.require_ownership()
        except RunSuperseded:
            return True
        return False

    with keep_alive(database, run.id, resumes=0) as heartbeat:
        wait_until(is_superseded, "the driver notices")
    assert read_state(database, run) is CampaignState.ABANDONED, "it keeps no other run alive"


def test_a_run_with_a_rule_that_is_not_installed_here_is_not_resumed(
    database: Database, settings: Settings
) -> None:
    ruled = SCENARIO.replace("[clock]", "[rules.no_such]\nhour = 8\n\n[clock]")
    run = start_recorded_run(database, ruled, settings.home)
    kill_driver(database, run)
    with pytest.raises(UsageError, match=r"rules\.no_such: no installed package has a rule"):
        resume(settings, run.id, ResumeOptions(), lambda _: None)
    assert read_state(database, run) is CampaignState.ABANDONED


def judge_resumed(database: Database, run: Run, *, known: bool) -> RunResult:
    """Return the result of a run that was resumed and has settled."""
    kill_driver(database, run)
    resumed = claim(database, load(database, run))
    for batch in enqueue_campaign(database, resumed.campaigns[0]):
        settle_batch(database, batch)
    first = DriverObservations(requeued_count=1) if known else None
    observations = RunObservations(
        state=RunState.FINISHED,
        planned=resumed.size,
        drivers=[first, DriverObservations(requeued_count=2)],
    )
    return judge_run(database, resumed, observations, CONDITIONS)


@pytest.mark.parametrize("known", [True, False])
def test_the_result_of_a_resumed_run_is_marked(database: Database, run: Run, known: bool) -> None:
    result = judge_resumed(database, run, known=known)
    summary = result.as_json()
    assert result.is_proven
    assert summary["resumed"] == 1
    assert {"throughput", "latencies", "seconds", "steps"} <= summary["not_comparable"].keys()
    assert summary["recovery"]["sent_on"] == (3 if known else None)
    speed, delivered = summary["thresholds"]
    assert (speed["passed"], delivered["passed"]) == (None, True)
    assert "was resumed" in speed["not_judged"]
    assert not result.has_passed, "a pause is no way around a threshold"
    text = format_result(result)
    assert "not comparable: the run was resumed" in text
    assert "Faults whose time had come before the run was resumed were not injected again" in text
    page = render_result_page(result)
    assert "finished, resumed" in page
    assert "not judged: the run was resumed" in page


@pytest.mark.parametrize(
    ("is_delivered_met", "words"),
    [(True, "threshold not judged (resumed)"), (False, "threshold missed (resumed)")],
)
def test_a_resumed_run_is_marked_in_the_list_of_runs(
    database: Database, run: Run, is_delivered_met: bool, words: str
) -> None:
    result = judge_resumed(database, run, known=True)
    speed, delivered = result.thresholds
    result = replace(result, thresholds=(speed, replace(delivered, holds=is_delivered_met)))
    store_result(database, result, lambda _: "")
    with database.read() as connection:
        [listed] = list_runs(connection)
    row = make_run_row(listed)
    assert row["result"] == words
    assert row["messages"] == result.run.size
    assert [row[name] for name in ("seconds", "throughput", "to_gateway_p95")] == [None] * 3


def test_a_threshold_on_speed_does_not_abort_a_resumed_run(database: Database, run: Run) -> None:
    kill_driver(database, run)
    resumed = claim(database, load(database, run))
    only_speed = replace(
        resumed, scenario=replace(run.scenario, thresholds=run.scenario.thresholds[:1])
    )
    assert not AbortCheck(only_speed)
    assert AbortCheck(replace(only_speed, resumption=None))
    assert AbortCheck(resumed), "the other threshold still does"
