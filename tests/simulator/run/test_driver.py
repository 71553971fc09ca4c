"""The driver sends what has arrived, when it has arrived, and says when it was meant to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from celery import Celery

from simulator.run.driver import Driver
from simulator.setup.record import Run, record_run, start_run
from tests.support.playing import campaign_of, scenario_of
from tracker.clock import Clock, Instant, from_seconds, to_seconds
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import transitions


class Hand:
    """A clock that is turned by hand; instants."""

    def __init__(self, start: Instant) -> None:
        self.at = start

    def now(self) -> Instant:
        return self.at

    def turn(self, seconds: float) -> None:
        self.at += from_seconds(seconds)


class Tasks(Celery):  # type: ignore[misc]  # Celery has no types
    """A Celery app whose tasks go nowhere; it keeps the batches of the chains that were sent."""

    def __init__(self) -> None:
        super().__init__("test", set_as_current=False, config_source="celeryconfig")
        self.messages_sent: list[tuple[int, int]] = []

    def send_task(self, name: str, _args: object = (), kwargs: Any = None, **options: Any) -> None:
        chain = [task["task"] for task in reversed(options["chain"])]
        assert [name, *chain] == ["workers.suppress", "workers.validate", "workers.dispatch"]
        assert f"'batch': {kwargs['batch']}" in options["kwargsrepr"]
        self.messages_sent.append((kwargs["campaign"], kwargs["batch"]))


@pytest.fixture
def tasks() -> Iterator[Tasks]:
    with Tasks() as made:
        yield made


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    """The clock of all runs, and of what the driver waits by."""
    made = Hand(1_700_000_000_000_000)

    def clock_for(_start: Instant, _speed: float, _ahead: int) -> Clock:
        return made

    monkeypatch.setattr("tracker.record.catalog.make_clock", clock_for)
    monkeypatch.setattr("simulator.setup.record.SystemClock", lambda: made)
    monkeypatch.setattr("simulator.run.driver.time.monotonic", lambda: to_seconds(made.at))
    return made


def started(database: Database, folder: Path, *campaigns: dict[str, Any]) -> Run:
    scenario = scenario_of(*(campaign_of(**{"audience": 100, **each}) for each in campaigns))
    return start_run(database, record_run(database, scenario, folder, lambda _: None))


def arrivals(database: Database, run: Run, place: int = 0) -> list[float]:
    """Seconds from the beginning of the run at which the messages were meant to arrive."""
    query = sa.select(transitions.c.at).where(
        transitions.c.campaign_id == run.campaigns[place].campaign.id,
        transitions.c.status == Status.QUEUED,
    )
    with database.read() as connection:
        at = connection.scalars(query.order_by(transitions.c.number)).all()
    return [to_seconds(each - run.started_at) for each in at]


def test_a_blast_is_sent_at_once_and_arrives_when_it_begins(
    database: Database, tmp_path: Path, tasks: Tasks, hand: Hand
) -> None:
    run = started(database, tmp_path, {"load": {"start": "2s"}})
    driven = Driver(database, tasks, run, 30, lambda _: False)
    assert driven.send_due_batch() == 0
    hand.turn(5)
    assert [driven.send_due_batch() for _ in range(5)] == [30, 30, 30, 10, 0]
    assert driven.messages_sent == 100
    assert arrivals(database, run) == [2.0] * 100, "the driver's lag is no reason to arrive later"
    assert [batch for _, batch in tasks.messages_sent] == [0, 1, 2, 3]


def test_a_shape_is_sent_as_it_arrives(
    database: Database, tmp_path: Path, tasks: Tasks, hand: Hand
) -> None:
    run = started(database, tmp_path, {"load": {"shape": {"constant": 10}}})
    driven = Driver(database, tasks, run, 30, lambda _: False)
    assert driven.send_due_batch() == 1, "the first arrives at once"
    hand.turn(0.2)
    assert driven.send_due_batch() == 0, "two are there, and more are collected"
    hand.turn(0.11)
    assert driven.send_due_batch() == 3
    hand.turn(6)
    assert [driven.send_due_batch() for _ in range(3)] == [30, 30, 0], "late: full batches at once"
    hand.turn(100)
    assert [driven.send_due_batch() for _ in range(3)] == [30, 6, 0]
    np.testing.assert_allclose(arrivals(database, run), np.arange(100) / 10)
    with database.read() as connection:
        sizes = connection.scalars(sa.select(batches.c.size).order_by(batches.c.batch)).all()
    assert sizes == [1, 3, 30, 30, 30, 6]


def test_campaigns_take_turns(database: Database, tmp_path: Path, tasks: Tasks, hand: Hand) -> None:
    run = started(database, tmp_path, {"name": "one"}, {"name": "two"})
    driven = Driver(database, tasks, run, 50, lambda _: False)
    while driven.send_due_batch():
        pass
    one, two = (loaded.campaign.id for loaded in run.campaigns)
    assert tasks.messages_sent == [(one, 0), (two, 0), (one, 1), (two, 1)]


def test_a_campaign_that_waits_for_another_arrives_once_that_is_settled(
    database: Database, tmp_path: Path, tasks: Tasks, hand: Hand
) -> None:
    run = started(
        database, tmp_path, {"name": "one"}, {"name": "two", "after": "one", "audience": 2}
    )
    settled: set[str] = set()
    driven = Driver(
        database,
        tasks,
        run,
        50,
        lambda loaded: loaded.campaign.name in settled,
    )
    assert [driven.send_due_batch() for _ in range(3)] == [50, 50, 0]
    hand.turn(7)
    settled.add("one")
    assert [driven.send_due_batch() for _ in range(2)] == [2, 0]
    assert arrivals(database, run, 1) == [7.0, 7.0]
