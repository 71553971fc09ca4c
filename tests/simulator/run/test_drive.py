"""A driver has finished with a run before another driver may resume it."""

import signal
import threading
from contextlib import closing

import pytest
from celery import Celery

from simulator.results.archive.run_list import list_runs
from simulator.results.observations import RunState
from simulator.results.result import RunResult
from simulator.retry import OutageLimitReached, Outages
from simulator.run.drive import add_run_to_errors, drive_run
from simulator.run.resume import claim_run, load_resumable_run
from simulator.run.system import RunSystem
from simulator.setup.heartbeat import keep_alive
from simulator.stack.broker import Broker
from simulator.stack.local import WorkerDied
from tests.support.recorded_runs import CONDITIONS, OPTIONS, end_driver, start_recorded_run
from tests.support.shell import wait_until
from tracker.campaign_states import CampaignState
from tracker.errors import SendtraceError
from tracker.queries.campaign_state import read_run_states
from tracker.record.registration import RunSuperseded
from tracker.settings import Settings
from tracker.status import Step
from tracker.store.database import Database
from workers.chains import StepArguments, enqueue_step

SCENARIO = """
name = "driven"
seed = 5

[[campaigns]]
name = "spring"
channel = "sms"
audience = 30
load = { start = "1h" }
"""


def make_system(database: Database, settings: Settings, broker: Broker, app: Celery) -> RunSystem:
    """Return a system without a worker."""
    return RunSystem(
        settings=settings,
        database=database,
        broker=broker,
        app=app,
        worker=None,
        local_stack=None,
        outages=Outages(),
    )


def interrupt_run(handler_before: object) -> None:
    """Send Ctrl-C as soon as the driver catches it."""
    wait_until(lambda: signal.getsignal(signal.SIGINT) is not handler_before, "Ctrl-C is caught")
    signal.raise_signal(signal.SIGINT)


def test_a_run_that_is_resumed_right_after_its_end_has_no_task_and_keeps_no_early_result(
    database: Database, settings: Settings, broker_url: str
) -> None:
    run = start_recorded_run(database, SCENARIO, settings.home)
    campaign = run.campaigns[0].campaign
    results: list[RunResult] = []
    with closing(Broker(broker_url)) as broker, Celery("test", broker=broker_url) as app:
        system = make_system(database, settings, broker, app)
        enqueue_step(app, Step.SUPPRESS, StepArguments(campaign=campaign.id, batch=0), campaign)

        def resume_it(result: RunResult) -> None:
            results.append(result)
            assert broker.count_waiting_tasks() == 0
            recorded = load_resumable_run(database, run.id)
            claim_run(database, Outages(), recorded, OPTIONS, CONDITIONS)

        interrupting = threading.Thread(
            target=interrupt_run, args=[signal.getsignal(signal.SIGINT)]
        )
        interrupting.start()
        with keep_alive(database, run.id, resumes=0) as heartbeat, pytest.raises(RunSuperseded):
            drive_run(system, run, OPTIONS, heartbeat, resume_it)
        interrupting.join()
    assert [result.observations.state for result in results] == [RunState.INTERRUPTED]
    with database.read() as connection:
        assert [listed.summary for listed in list_runs(connection)] == [None]


@pytest.mark.parametrize(
    ("error", "has_started", "hint"),
    [
        (WorkerDied("died"), False, "run 1 did not finish; it never started"),
        (WorkerDied("died"), True, "30 s from now, sendtrace resume 1 continues it"),
        (OutageLimitReached("o"), False, "o\nrun 1 was interrupted; it never started"),
        (
            OutageLimitReached("o"),
            True,
            "o\nrun 1 was interrupted; once it is available again, sendtrace resume 1 continues",
        ),
        (RunSuperseded(), True, "the other driver continues run 1"),
        (KeyboardInterrupt(), False, "run 1 was interrupted; it never started"),
        (
            KeyboardInterrupt(),
            True,
            "interrupted; see .* --run 1; sendtrace resume 1 continues it",
        ),
    ],
)
def test_an_error_says_how_its_run_can_be_continued(
    database: Database,
    settings: Settings,
    broker_url: str,
    error: BaseException,
    has_started: bool,
    hint: str,
) -> None:
    run = start_recorded_run(database, SCENARIO, settings.home)
    with closing(Broker(broker_url)) as broker, Celery("test") as app:
        system = make_system(database, settings, broker, app)
        with (
            pytest.raises(SendtraceError, match=hint) as raised,
            add_run_to_errors(system, run, has_started=has_started),
        ):
            raise error
    if isinstance(error, KeyboardInterrupt | OutageLimitReached):
        with database.read() as connection:
            assert read_run_states(connection, [run.id]) == {run.id: CampaignState.INTERRUPTED}
    promises_resume = "sendtrace resume" in str(raised.value)
    assert promises_resume == (has_started and not isinstance(error, RunSuperseded))


@pytest.mark.parametrize("state", [CampaignState.FINISHED, CampaignState.ABORTED])
@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (KeyboardInterrupt(), "interrupted; "),
        (WorkerDied("died"), "died\n"),
        (OutageLimitReached("away"), "away\n"),
    ],
)
def test_an_error_after_the_end_of_a_run_advises_to_judge_it(
    database: Database,
    settings: Settings,
    broker_url: str,
    state: CampaignState,
    error: BaseException,
    problem: str,
) -> None:
    run = start_recorded_run(database, SCENARIO, settings.home)
    with closing(Broker(broker_url)) as broker, Celery("test") as app:
        system = make_system(database, settings, broker, app)
        end_driver(database, run, state)
        with (
            pytest.raises(SendtraceError) as raised,
            add_run_to_errors(system, run, has_started=True),
        ):
            raise error
    assert str(raised.value) == f"{problem}run 1 has ended; sendtrace judge 1 gives its result"
    with database.read() as connection:
        assert read_run_states(connection, [run.id]) == {run.id: state}
