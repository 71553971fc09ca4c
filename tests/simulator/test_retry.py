"""Transient errors: the driver retries, reports it once, and gives up in the end."""

import pytest
import sqlalchemy as sa
from redis.exceptions import ConnectionError as RedisConnectionError

from simulator import retry
from simulator.retry import retry_transient
from simulator.run.driver import enqueue_once
from tests.support.factory import AUTHOR, Plan, find_violations, make_campaign
from tracker.clock import SystemClock
from tracker.store.database import Database

NOW = SystemClock().now()

DATABASE_ERROR = sa.exc.OperationalError("SELECT 1", {}, Exception("unavailable"))
BROKER_ERROR = RedisConnectionError("unavailable")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_PAUSE_SECONDS", 0.001)


@pytest.mark.parametrize(
    ("error", "service"),
    [(DATABASE_ERROR, "database"), (BROKER_ERROR, "broker")],
    ids=["database", "broker"],
)
def test_transient_errors_are_retried_and_reported_once(
    capsys: pytest.CaptureFixture[str], error: Exception, service: str
) -> None:
    errors = [error, error, error]

    def work() -> int:
        if errors:
            raise errors.pop()
        return 7

    assert retry_transient(work) == 7
    assert capsys.readouterr().err == f"{service} unavailable, retrying\n"


def test_retries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_LIMIT_SECONDS", 0.02)

    def work() -> None:
        raise DATABASE_ERROR

    with pytest.raises(sa.exc.OperationalError):
        retry_transient(work)


def test_other_errors_are_not_retried() -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        raise sa.exc.IntegrityError("INSERT", {}, Exception("duplicate"))

    with pytest.raises(sa.exc.IntegrityError):
        retry_transient(work)
    assert calls == [1]


def test_a_batch_that_is_enqueued_again_is_recorded_once(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=10))

    def enqueue(batch: int, first: int, size: int) -> object:
        return enqueue_once(
            database,
            campaign,
            batch=batch,
            first=first,
            size=size,
            author=AUTHOR,
            at=NOW,
            resumes=0,
        )

    assert enqueue(0, 0, 5) == enqueue(0, 0, 5)
    enqueue(1, 5, 5)
    assert find_violations(database, campaign) == []
    with pytest.raises(sa.exc.IntegrityError):
        enqueue(1, 5, 4)
