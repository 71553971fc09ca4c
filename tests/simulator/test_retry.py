"""What passes is waited for, once said, and for a while; what is repeated does no harm."""

import pytest
import sqlalchemy as sa
from redis.exceptions import ConnectionError as NoBroker

from simulator import retry
from simulator.retry import retry_transient
from simulator.run.driver import enqueue_once
from tests.support.factory import AUTHOR, Plan, broken, make_campaign
from tracker.clock import SystemClock
from tracker.store.database import Database

NOW = SystemClock().now()

AWAY = sa.exc.OperationalError("SELECT 1", {}, Exception("away"))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_PAUSE_SECONDS", 0.001)


@pytest.mark.parametrize(
    ("error", "what"), [(AWAY, "database"), (NoBroker("away"), "broker")], ids=["SQL", "Redis"]
)
def test_what_passes_is_waited_for_and_said_once(
    capsys: pytest.CaptureFixture[str], error: Exception, what: str
) -> None:
    tries = [error, error, error]

    def work() -> int:
        if tries:
            raise tries.pop()
        return 7

    assert retry_transient(work) == 7
    assert capsys.readouterr().err == f"the {what} does not answer; waiting for it\n"


def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_LIMIT_SECONDS", 0.02)

    def work() -> None:
        raise AWAY

    with pytest.raises(sa.exc.OperationalError):
        retry_transient(work)


def test_other_errors_are_not_waited_for() -> None:
    tries = []

    def work() -> None:
        tries.append(1)
        raise sa.exc.IntegrityError("INSERT", {}, Exception("twice"))

    with pytest.raises(sa.exc.IntegrityError):
        retry_transient(work)
    assert tries == [1]


def test_a_batch_that_is_enqueued_again_is_on_record_once(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=10))
    first = enqueue_once(database, campaign, batch=0, first=0, size=5, by=AUTHOR, at=NOW)
    assert enqueue_once(database, campaign, batch=0, first=0, size=5, by=AUTHOR, at=NOW) == first
    enqueue_once(database, campaign, batch=1, first=5, size=5, by=AUTHOR, at=NOW)
    assert broken(database, campaign) == []
    with pytest.raises(sa.exc.IntegrityError):
        enqueue_once(database, campaign, batch=1, first=5, size=4, by=AUTHOR, at=NOW)
