"""Driver: it enqueues messages as they arrive, and records their intended arrivals."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from celery import Celery

from simulator.retry import Outages
from simulator.run.driver import Driver
from simulator.setup.record import record_run, start_run
from simulator.setup.run import Resumption, Run, RunCampaign
from tests.support.inline_runs import (
    assert_passed,
    build_campaign,
    build_scenario,
    judge_recorded_run,
    settle_batch,
)
from tracker.clock import Clock, Instant, from_seconds, to_seconds
from tracker.queries.report import make_reports
from tracker.record.actions.campaigns import cancel_campaign
from tracker.record.catalog import load_batch
from tracker.record.registration import RunSuperseded, resume_run
from tracker.status import Reason, Status
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import transitions


class ManualClock:
    """A clock that a test advances."""

    def __init__(self, start: Instant) -> None:
        self.instant = start

    def now(self) -> Instant:
        return self.instant

    def at(self, real: Instant) -> Instant:
        return real

    def advance(self, seconds: float) -> None:
        self.instant += from_seconds(seconds)


class RecordingApp(Celery):  # type: ignore[misc]  # Celery has no types
    """A Celery app whose tasks go nowhere; it keeps the batches of the chains that were sent."""

    def __init__(self) -> None:
        super().__init__("test", set_as_current=False, config_source="celeryconfig")
        self.sent_batches: list[tuple[int, int]] = []

    def send_task(self, name: str, _args: object = (), kwargs: Any = None, **options: Any) -> None:
        chain = [task["task"] for task in reversed(options["chain"])]
        assert [name, *chain] == ["workers.suppress", "workers.validate", "workers.dispatch"]
        assert f"'batch': {kwargs['batch']}" in options["kwargsrepr"]
        self.sent_batches.append((kwargs["campaign"], kwargs["batch"]))


@pytest.fixture
def app() -> Iterator[RecordingApp]:
    with RecordingApp() as app:
        yield app


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """Replace the clocks of runs and of the driver by a manual clock."""
    clock = ManualClock(1_700_000_000_000_000)

    def clock_for(_start: Instant, _speed: float, _ahead: int, _really: Instant | None) -> Clock:
        return clock

    monkeypatch.setattr("tracker.record.catalog.make_clock", clock_for)
    monkeypatch.setattr("simulator.setup.record.SystemClock", lambda: clock)
    monkeypatch.setattr("simulator.run.driver.time.monotonic", lambda: to_seconds(clock.instant))
    return clock


def start(database: Database, folder: Path, *campaigns: dict[str, Any]) -> Run:
    scenario = build_scenario(
        *(build_campaign(**{"audience": 100, **section}) for section in campaigns)
    )
    return start_run(database, record_run(database, scenario, folder, lambda _: None))


def make_driver(
    database: Database,
    app: RecordingApp,
    run: Run,
    batch_size: int,
    is_settled: Callable[[RunCampaign], bool] = lambda _: False,
    is_paused: Callable[[RunCampaign], bool] = lambda _: False,
    is_cancelled: Callable[[RunCampaign], bool] = lambda _: False,
) -> Driver:
    return Driver(database, app, run, batch_size, is_settled, is_paused, is_cancelled, Outages())


def arrivals(database: Database, run: Run, index: int = 0) -> list[float]:
    """Return the intended arrivals of the messages, in seconds from the start of the run."""
    query = sa.select(transitions.c.at).where(
        transitions.c.campaign_id == run.campaigns[index].campaign.id,
        transitions.c.status == Status.QUEUED,
    )
    with database.read() as connection:
        instants = connection.scalars(query.order_by(transitions.c.number)).all()
    return [to_seconds(instant - run.started_at) for instant in instants]


def test_all_of_a_blast_arrives_at_its_start(
    database: Database, tmp_path: Path, app: RecordingApp, clock: ManualClock
) -> None:
    run = start(database, tmp_path, {"load": {"start": "2s"}})
    driver = make_driver(database, app, run, 30)
    assert driver.send_due_batch() == 0
    clock.advance(5)
    assert [driver.send_due_batch() for _ in range(5)] == [30, 30, 30, 10, 0]
    assert driver.messages_sent == 100
    assert arrivals(database, run) == [2.0] * 100, "the lag of the driver doesn't move the arrivals"
    assert [batch for _, batch in app.sent_batches] == [0, 1, 2, 3]


def test_messages_of_a_shape_are_sent_as_they_arrive(
    database: Database, tmp_path: Path, app: RecordingApp, clock: ManualClock
) -> None:
    run = start(database, tmp_path, {"load": {"shape": {"constant": 10}}})
    driver = make_driver(database, app, run, 30)
    assert driver.send_due_batch() == 1, "the first arrives at once"
    clock.advance(0.2)
    assert driver.send_due_batch() == 0, "two have arrived, and more are collected"
    clock.advance(0.11)
    assert driver.send_due_batch() == 3
    clock.advance(6)
    assert [driver.send_due_batch() for _ in range(3)] == [30, 30, 0], "late: full batches at once"
    clock.advance(100)
    assert [driver.send_due_batch() for _ in range(3)] == [30, 6, 0]
    np.testing.assert_allclose(arrivals(database, run), np.arange(100) / 10)
    with database.read() as connection:
        sizes = connection.scalars(sa.select(batches.c.size).order_by(batches.c.batch)).all()
    assert sizes == [1, 3, 30, 30, 30, 6]


def test_campaigns_take_turns(
    database: Database, tmp_path: Path, app: RecordingApp, clock: ManualClock
) -> None:
    run = start(database, tmp_path, {"name": "one"}, {"name": "two"})
    driver = make_driver(database, app, run, 50)
    while driver.send_due_batch():
        pass
    one, two = (loaded.campaign.id for loaded in run.campaigns)
    assert app.sent_batches == [(one, 0), (two, 0), (one, 1), (two, 1)]


def test_a_campaign_after_another_arrives_once_that_has_settled(
    database: Database, tmp_path: Path, app: RecordingApp, clock: ManualClock
) -> None:
    run = start(database, tmp_path, {"name": "one"}, {"name": "two", "after": "one", "audience": 2})
    settled: set[str] = set()
    driver = make_driver(
        database,
        app,
        run,
        50,
        lambda run_campaign: run_campaign.campaign.name in settled,
    )
    assert [driver.send_due_batch() for _ in range(3)] == [50, 50, 0]
    clock.advance(7)
    settled.add("one")
    assert [driver.send_due_batch() for _ in range(2)] == [2, 0]
    assert arrivals(database, run, 1) == [7.0, 7.0]


def resume(database: Database, run: Run, clock: ManualClock, paused: float) -> Run:
    """Return the run as a further driver continues it after a pause that has just passed."""
    with database.write() as connection:
        assert resume_run(connection, run.id, run.driver_number, sa.true())
    stopped_at = clock.instant
    clock.advance(paused)
    return run.resumed(
        Resumption(
            number=run.driver_number + 1,
            elapsed=stopped_at - run.started_at - run.paused,
            paused=run.paused + from_seconds(paused),
            stopped_at=stopped_at,
        )
    )


def test_a_further_driver_continues_after_the_last_recorded_batch(
    database: Database, tmp_path: Path, app: RecordingApp, clock: ManualClock
) -> None:
    run = start(
        database,
        tmp_path,
        {"name": "begun", "load": {"shape": {"constant": 10}}},
        {"name": "blast", "audience": 20},
        {"name": "later", "audience": 1, "load": {"start": "30s"}},
    )
    clock.advance(5)
    first = make_driver(database, app, run, 30)
    assert [first.send_due_batch() for _ in range(2)] == [30, 20]
    clock.advance(0.3)
    assert [first.send_due_batch() for _ in range(2)] == [24, 0]
    run = resume(database, run, clock, 1_000)
    app.sent_batches.clear()
    second = make_driver(database, app, run, 30)
    assert second.messages_sent == 74
    assert second.send_due_batch() == 1, "the next one arrives now, and no other yet"
    clock.advance(1)
    assert second.send_due_batch() == 10
    clock.advance(23)
    assert [second.send_due_batch() for _ in range(3)] == [30, 5, 0], "30 s come after the pause"
    clock.advance(2)
    assert [second.send_due_batch() for _ in range(2)] == [1, 0]
    begun, _, later = (run_campaign.campaign.id for run_campaign in run.campaigns)
    batches_of_begun = [(begun, batch) for batch in range(2, 6)]
    assert app.sent_batches == [*batches_of_begun, (later, 0)]
    assert arrivals(database, run, 1) == [0.0] * 20
    assert arrivals(database, run, 2) == [1_030.0]
    np.testing.assert_allclose(arrivals(database, run)[54:], 1_005.3 + np.arange(46) / 10)


def drive(
    database: Database, app: RecordingApp, run: Run, clock: ManualClock, seconds: float
) -> Driver:
    """Queue the messages of some seconds, and return the driver."""
    driver = make_driver(database, app, run, 30, lambda _: True)
    clock.advance(seconds)
    while driver.send_due_batch():
        pass
    return driver


def settle(database: Database, keys: Sequence[tuple[int, int]]) -> None:
    """Run the steps of batches until they have settled."""
    with database.read() as connection:
        queued = [load_batch(connection, campaign, batch) for campaign, batch in keys]
    for batch in queued:
        settle_batch(database, batch)


def test_a_run_that_is_killed_twice_ends_as_one_that_is_not(
    database: Database, tmp_path: Path, app: RecordingApp, clock: ManualClock
) -> None:
    section = {"load": {"shape": {"constant": 10}}, "defects": {"unsubscribed": 0.3}}
    undisturbed = start(database, tmp_path, section)
    assert drive(database, app, undisturbed, clock, 10).messages_sent == 100
    settle(database, app.sent_batches)
    expected = judge_recorded_run(database, undisturbed)
    app.sent_batches.clear()

    run = start(database, tmp_path, section)
    drive(database, app, run, clock, 3)
    settle(database, app.sent_batches[:1])
    drivers = []
    for seconds in (3, 10):
        run = resume(database, run, clock, 1_000)
        drivers.append(drive(database, app, run, clock, seconds).messages_sent)
    assert (drivers[0] < 100, drivers[1]) == (True, 100)
    settle(database, app.sent_batches)
    result = judge_recorded_run(database, run)
    assert_passed(result)
    [check], [check_of_undisturbed] = result.prediction_checks, expected.prediction_checks
    assert check.outcome_digest == check_of_undisturbed.outcome_digest
    assert sorted(arrivals(database, run)) == arrivals(database, run)
    assert arrivals(database, run)[-1] > 2_000, "both pauses delay the last message"


def test_a_campaign_that_was_due_in_a_pause_begins_now(
    database: Database, tmp_path: Path, app: RecordingApp, clock: ManualClock
) -> None:
    run = start(database, tmp_path, {"load": {"shape": {"constant": 10}}})
    run = resume(database, run, clock, 60)
    clock.advance(2)
    driver = make_driver(database, app, run, 30)
    assert driver.send_due_batch() == 1
    assert arrivals(database, run) == [62.0]


def test_a_campaign_after_one_that_was_sent_before_the_pause_begins_when_that_has_settled(
    database: Database, tmp_path: Path, app: RecordingApp, clock: ManualClock
) -> None:
    run = start(database, tmp_path, {"name": "one"}, {"name": "two", "after": "one", "audience": 2})
    first = make_driver(database, app, run, 100)
    assert [first.send_due_batch() for _ in range(2)] == [100, 0]
    run = resume(database, run, clock, 60)
    settled: set[str] = set()
    second = make_driver(
        database, app, run, 100, lambda run_campaign: run_campaign.campaign.name in settled
    )
    assert second.send_due_batch() == 0
    settled.add("one")
    assert second.send_due_batch() == 2


def test_a_driver_that_was_superseded_enqueues_nothing(
    database: Database, tmp_path: Path, app: RecordingApp, clock: ManualClock
) -> None:
    run = start(database, tmp_path, {})
    first = make_driver(database, app, run, 30)
    assert first.send_due_batch() == 30
    second = make_driver(database, app, resume(database, run, clock, 60), 30)
    with pytest.raises(RunSuperseded):
        first.send_due_batch()
    assert [second.send_due_batch() for _ in range(4)] == [30, 30, 10, 0]
    assert [batch for _, batch in app.sent_batches] == [0, 1, 2, 3]


def test_a_paused_campaign_is_held_and_its_next_message_arrives_when_it_is_resumed(
    database: Database, tmp_path: Path, app: RecordingApp, clock: ManualClock
) -> None:
    constant = {"load": {"shape": {"constant": 10}}}
    run = start(
        database,
        tmp_path,
        {"name": "held", **constant},
        {"name": "other", "audience": 60, **constant},
    )
    paused: set[str] = set()
    driver = make_driver(
        database,
        app,
        run,
        30,
        is_paused=lambda run_campaign: run_campaign.campaign.name in paused,
    )
    clock.advance(2)
    assert [driver.send_due_batch() for _ in range(3)] == [21, 21, 0]
    paused.add("held")
    clock.advance(4)
    assert [driver.send_due_batch() for _ in range(3)] == [30, 9, 0], "only the other campaign"
    paused.clear()
    assert [driver.send_due_batch() for _ in range(2)] == [1, 0], "no backlog of the pause"
    clock.advance(10)
    while driver.send_due_batch():
        pass
    expected = [*np.arange(21) / 10, *(6 + np.arange(79) / 10)]
    np.testing.assert_allclose(arrivals(database, run), expected)


def test_a_campaign_that_is_paused_before_its_start_begins_when_it_is_resumed(
    database: Database, tmp_path: Path, app: RecordingApp, clock: ManualClock
) -> None:
    run = start(database, tmp_path, {"load": {"shape": "blast", "start": "1s"}, "audience": 20})
    is_paused = True
    driver = make_driver(database, app, run, 30, is_paused=lambda _: is_paused)
    clock.advance(5)
    assert driver.send_due_batch() == 0
    is_paused = False
    assert driver.send_due_batch() == 20
    assert arrivals(database, run) == [5.0] * 20


def test_what_is_left_of_a_cancelled_campaign_is_recorded_and_cancelled_at_once(
    database: Database, tmp_path: Path, app: RecordingApp, clock: ManualClock
) -> None:
    begun = {"name": "begun", "load": {"shape": {"constant": 10}}}
    later = {"name": "later", "audience": 20, "load": {"start": "1h"}}
    run = start(database, tmp_path, begun, later)
    cancelled: set[str] = set()
    driver = make_driver(
        database,
        app,
        run,
        30,
        is_cancelled=lambda run_campaign: run_campaign.campaign.name in cancelled,
    )
    clock.advance(2)
    assert [driver.send_due_batch() for _ in range(2)] == [21, 0]
    for campaign in run.recorded_campaigns:
        cancel_campaign(database, campaign, actor="asha", reason="")
    cancelled.update(("begun", "later"))
    clock.advance(1)
    sizes = []
    while size := driver.send_due_batch():
        sizes.append(size)
    assert sorted(sizes) == [19, 20, 30, 30]
    assert len(app.sent_batches) == 1, "the rest gets no task"
    with database.read() as connection:
        reports = make_reports(connection, run.recorded_campaigns)
    assert [report.count_messages(Status.NOT_SENT, Reason.CANCELLED) for report in reports] == [
        79,
        20,
    ]
    assert [report.count_messages(Status.QUEUED) for report in reports] == [21, 0]
    settle(database, app.sent_batches)
    assert_passed(judge_recorded_run(database, run))
