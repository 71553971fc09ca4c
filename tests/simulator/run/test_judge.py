"""A run is judged from the record, and what the record doesn't know is said to be unknown."""

import json
import shutil
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from simulator.cli.simulate import choose_exit_code
from simulator.figures import is_sampled
from simulator.pages.result_text import format_result
from simulator.results.archive.run_list import list_runs, make_run_row
from simulator.results.archive.store import load_repeated_results
from simulator.results.observations import (
    UNOBSERVED_CAUSE,
    UNSETTLED_CAUSE,
    DriverObservations,
    RunState,
    Sample,
)
from simulator.results.result import RunResult
from simulator.run.driver import DRIVER_AUTHOR
from simulator.run.judge import RunIsAlive, judge, load_recorded_run
from simulator.run.outcome import RunOutcome
from simulator.scenario.faults import InjectedFault
from simulator.schema import notices
from simulator.setup.run import Run
from tests.support.inline_runs import enqueue_campaign, run_step, settle_batch
from tests.support.recorded_runs import end_driver, kill_driver, start_recorded_run
from tracker.campaign_states import CampaignState
from tracker.clock import from_seconds
from tracker.monitoring import QueueDepth
from tracker.queries.next_step import CHECK_CHAIN
from tracker.record.catalog import load_batch
from tracker.record.journal import enqueue_batch
from tracker.settings import Settings
from tracker.status import Step
from tracker.store.database import Database
from tracker.store.schema.messages import transitions
from workers.queues import QUEUES

SIZE = 60

SCENARIO = f"""
name = "judged"
seed = 5

[[campaigns]]
name = "spring"
channel = "sms"
audience = {SIZE}
defects = {{ unsubscribed = 0.2 }}

[gateways.sms]
soft_bounce = 0.2

[[faults]]
at = "1h"
kill = "worker"

[thresholds]
"queues.gateway.ready" = "< 1000"
"delivered.share" = "> 0.1"
"""

OBSERVED = DriverObservations(
    samples=(Sample(second=0, depths={queue: QueueDepth(7, 1) for queue in QUEUES}, usage=None),),
    requeued_count=4,
    snapshot_count=9,
    injected_faults=(InjectedFault(description="worker killed", at=1.0, until=2.0),),
)

ON_SQLITE = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
"""Marks tests whose queries other tests run on both databases."""


@pytest.fixture(autouse=True)
def pretend_server_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests' server, which has just started, count as running for long."""
    monkeypatch.setattr("tracker.queries.campaign_state.server_start", lambda: sa.literal(0))


@pytest.fixture
def run(database: Database, settings: Settings) -> Run:
    return start_recorded_run(database, SCENARIO, settings.home)


@pytest.fixture
def judge_it(database: Database, settings: Settings, run: Run) -> Callable[[], RunOutcome]:
    """Return a function that judges the run and checks that it printed its result."""

    def judge_it() -> RunOutcome:
        printed: list[RunResult] = []
        outcome = judge(database, settings, run.id, printed.append)
        assert printed == [outcome.result]
        return outcome

    return judge_it


def settle_first_half(database: Database, run: Run) -> None:
    """Queue a third of the messages and settle it; queue another third and judge it only."""
    [run_campaign] = run.campaigns
    third = SIZE // 3
    first, second = (
        enqueue_batch(
            database,
            run_campaign.campaign,
            batch=number,
            first=number * third,
            size=third,
            author=DRIVER_AUTHOR,
        )
        for number in range(2)
    )
    settle_batch(database, first)
    run_step(database, second, Step.SUPPRESS)


def settle_all(database: Database, run: Run) -> None:
    for batch in enqueue_campaign(database, run.campaigns[0], number=2):
        settle_batch(database, batch)


def test_a_killed_driver_leaves_unknown_values_and_no_zeros(
    database: Database, run: Run, judge_it: Callable[[], RunOutcome]
) -> None:
    settle_first_half(database, run)
    kill_driver(database, run)
    outcome = judge_it()
    result, summary = outcome.result, outcome.result.as_json()
    assert result.is_proven, result.prediction_checks
    assert result.observations.is_partial
    assert (summary["state"], summary["resumed"]) == ("abandoned", 0)
    assert (summary["planned"], summary["messages"]) == (SIZE, 2 * SIZE // 3)
    [check] = summary["prediction"]["campaigns"]
    assert check["unsettled"] > 0
    assert check["as_predicted"] + check["unsettled"] == 2 * SIZE // 3
    assert summary["recovery"] == {"sent_on": None}
    assert summary["snapshots"] is None
    sampled = {name: value for name, value in summary["figures"].items() if is_sampled(name)}
    assert set(sampled.values()) == {None}
    assert summary["absent"].keys() == sampled.keys()
    assert "snapshots_balance" not in {row["invariant"] for row in summary["invariants"]}
    queue, delivered = summary["thresholds"]
    assert (queue["passed"], delivered["passed"]) == (None, None)
    assert "did not record what it observed" in queue["not_judged"]
    assert delivered["not_judged"] == "the run ended before its messages had settled"
    assert summary["verdict"]["thresholds_met"] is None
    assert summary["limited_by"]["cause"] == "unknown"
    text = format_result(result)
    assert "Not measured: queue depths, CPU and memory of the workers, re-queued batches" in text
    assert "Whether 1 fault of the scenario took effect is unknown" in text
    assert "– threshold" in text
    cause = "no recorded end, no heartbeat of its driver for 30 s"
    assert f"partial: abandoned: {cause}; 40 of 60 messages" in text
    assert choose_exit_code(outcome) == 1


def test_a_finished_run_is_judged_with_what_its_driver_saw(
    database: Database, run: Run, judge_it: Callable[[], RunOutcome]
) -> None:
    settle_all(database, run)
    end_driver(database, run, CampaignState.FINISHED, OBSERVED)
    outcome = judge_it()
    summary = outcome.result.as_json()
    assert outcome.result.has_passed
    assert choose_exit_code(outcome) == 0
    assert (summary["state"], summary["snapshots"]) == ("finished", 9)
    assert summary["recovery"] == {"sent_on": 4}
    assert summary["figures"]["queues.gateway.ready"] == 7
    assert summary["faults"][0]["told"] == "worker killed"
    assert summary["machine"] == {"cores": "2"}, "the machine of the run, not of this command"
    assert outcome.page == run.folder / "report.html"
    assert json.loads((run.folder / "summary.json").read_text()) == summary


@ON_SQLITE
@pytest.mark.parametrize(
    ("state", "code"),
    [(CampaignState.INTERRUPTED, 130), (CampaignState.ABORTED, 99)],
)
def test_a_run_that_was_given_up_is_judged_as_far_as_it_got(
    database: Database,
    run: Run,
    judge_it: Callable[[], RunOutcome],
    state: CampaignState,
    code: int,
) -> None:
    aborted_by = run.scenario.thresholds[1] if state is CampaignState.ABORTED else None
    seen = DriverObservations(aborted_by=aborted_by) if aborted_by else None
    settle_first_half(database, run)
    end_driver(database, run, state, seen)
    outcome = judge_it()
    assert outcome.result.observations.state.value == state.value
    assert outcome.result.prediction_checks[0].unsettled > 0
    assert outcome.result.is_proven
    assert choose_exit_code(outcome) == code
    summary = outcome.result.as_json()
    queue, delivered = summary["thresholds"]
    assert queue["not_judged"] == (UNSETTLED_CAUSE if aborted_by else UNOBSERVED_CAUSE)
    if aborted_by is not None:
        assert summary["aborted_for"] == "delivered.share > 0.1"
        assert (delivered["passed"], delivered["not_judged"]) == (False, None)
        assert summary["verdict"]["thresholds_met"] is False


@ON_SQLITE
def test_an_interrupted_driver_that_waited_leaves_nothing_out(
    database: Database, run: Run, judge_it: Callable[[], RunOutcome]
) -> None:
    settle_first_half(database, run)
    end_driver(database, run, CampaignState.INTERRUPTED, DriverObservations())
    result = judge_it().result
    assert result.observations.has_settled
    assert not result.is_proven, "a message that did not settle is an error then"


@ON_SQLITE
def test_an_interrupted_driver_that_left_deferred_messages_did_not_wait_for_all(
    database: Database, run: Run, judge_it: Callable[[], RunOutcome]
) -> None:
    settle_first_half(database, run)
    end_driver(database, run, CampaignState.INTERRUPTED, DriverObservations(deferred_count=1))
    result = judge_it().result
    assert not result.observations.has_settled
    assert result.is_proven


def test_a_message_that_ended_otherwise_is_found_in_an_abandoned_run(
    database: Database, run: Run, judge_it: Callable[[], RunOutcome]
) -> None:
    settle_first_half(database, run)
    with database.write() as connection:
        connection.execute(
            sa.text("UPDATE messages SET attempt = 3 WHERE number = 0 AND status <> 0")
        )
    kill_driver(database, run)
    outcome = judge_it()
    assert outcome.result.prediction_checks[0].differing == 1
    assert choose_exit_code(outcome) == 3


def test_a_later_result_replaces_the_earlier_one(
    database: Database, run: Run, judge_it: Callable[[], RunOutcome]
) -> None:
    settle_first_half(database, run)
    kill_driver(database, run)
    judge_it()
    settle_all_remaining(database, run)
    end_driver(database, run, CampaignState.FINISHED, DriverObservations())
    judge_it()
    with database.read() as connection:
        [stored] = load_repeated_results(connection, run.id)
        [listed] = list_runs(connection)
    assert stored.summary.state is RunState.FINISHED
    assert make_run_row(listed)["messages"] == SIZE


def settle_all_remaining(database: Database, run: Run) -> None:
    [run_campaign] = run.campaigns
    third = SIZE // 3
    enqueue_batch(
        database,
        run_campaign.campaign,
        batch=2,
        first=2 * third,
        size=third,
        author=DRIVER_AUTHOR,
    )
    for number in range(3):
        with database.read() as connection:
            batch = load_batch(connection, run_campaign.campaign.id, number)
        settle_batch(database, batch)


def test_a_run_with_a_living_driver_is_not_judged(
    database: Database, run: Run, judge_it: Callable[[], RunOutcome]
) -> None:
    with pytest.raises(RunIsAlive, match=f"run {run.id} may have a living driver"):
        judge_it()
    kill_driver(database, run)
    assert judge_it().result.run.size == 0, "killed before the first message"


LATE = SCENARIO.replace("soft_bounce = 0.2", "receipts = { late_bounce = 1.0 }")


@ON_SQLITE
def test_a_missing_folder_is_created_for_the_result(
    database: Database, settings: Settings, run: Run, judge_it: Callable[[], RunOutcome]
) -> None:
    shutil.rmtree(settings.home / "runs")
    kill_driver(database, run)
    load_recorded_run(database, run.id)
    assert not (settings.home / "runs").exists(), "reading writes no file"
    page = judge_it().page
    assert page == settings.home / "runs" / str(run.id) / "report.html"
    assert page.exists()


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_the_planner_knows_the_tables_when_a_run_is_judged(
    database: Database, run: Run, judge_it: Callable[[], RunOutcome]
) -> None:
    # The migration sets the statistics of SQLite.
    settle_all(database, run)
    end_driver(database, run, CampaignState.FINISHED, OBSERVED)
    judge_it()
    estimate = "SELECT reltuples FROM pg_class WHERE relname = 'transitions'"
    with database.read() as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(transitions))
        assert connection.scalar(sa.text(estimate)) == count


def test_a_late_bounce_that_is_yet_to_come_is_no_difference(
    database: Database, settings: Settings
) -> None:
    run = start_recorded_run(database, LATE, settings.home)
    [batch] = enqueue_campaign(database, run.campaigns[0])
    for step in (*CHECK_CHAIN, Step.SUBMIT):
        run_step(database, batch, step)
    with database.write() as connection:
        connection.execute(sa.update(notices).values(due_at=notices.c.due_at + from_seconds(3600)))
    run_step(database, batch, Step.DELIVER)
    kill_driver(database, run)
    result = judge(database, settings, run.id, lambda _: None).result
    [check], [report] = result.prediction_checks, result.reports
    assert result.is_proven
    assert report.delivered > 0
    assert check.unsettled == report.sent, "each of them bounces later"
