"""Outages: the driver waits for them, shows them, and gives up after their limit."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from redis.exceptions import ConnectionError as RedisConnectionError

from simulator import retry
from simulator.cli.output import parse_duration_option
from simulator.cli.simulate import DEFAULT_OUTAGE_LIMIT
from simulator.retry import Outage, OutageLimitReached, Outages
from simulator.run.driver import enqueue_once
from tests.support.factory import AUTHOR, Plan, find_violations, make_campaign
from tracker.clock import SystemClock
from tracker.errors import UsageError
from tracker.store.database import Database

NOW = SystemClock().now()

DATABASE_ERROR = sa.exc.OperationalError("SELECT 1", {}, Exception("unavailable"))
BROKER_ERROR = RedisConnectionError("unavailable")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_PAUSE_SECONDS", 0.001)


class Display:
    """A display that keeps what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.services: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    def show_outage(self, outage: Outage) -> None:
        self.services.append(outage.service)


@pytest.mark.parametrize(
    ("error", "service"),
    [(DATABASE_ERROR, "database"), (BROKER_ERROR, "broker")],
    ids=["database", "broker"],
)
def test_transient_errors_are_retried_and_reported_once(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    service: str,
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    errors = [error, error, error]

    def work() -> int:
        if errors:
            raise errors.pop()
        return 7

    assert Outages().retry(work) == 7
    assert capsys.readouterr().err == (
        f"{service} unavailable, retrying\n{service} available again after 0 s\n"
    )


def test_an_outage_is_shown_while_it_lasts_with_the_service_that_failed_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    errors: list[Exception] = [BROKER_ERROR, DATABASE_ERROR, DATABASE_ERROR]

    def work() -> None:
        if errors:
            raise errors.pop()

    outages, display = Outages(), Display()
    with outages.shown_on(display):
        outages.retry(work)
    assert display.services == ["database", "database", "broker"]
    assert display.lines == [
        "database unavailable, retrying", "broker available again after 0 s",
    ]  # fmt: skip
    assert outages.ended_count == 1


def test_the_text_of_an_outage_has_its_duration_and_its_limit() -> None:
    outage = Outage(service="broker", since=-1e6, limit=timedelta(minutes=30))
    assert str(outage).startswith("broker unavailable for ")
    assert str(outage).endswith("; the limit is 30 min")


def test_an_outage_ends_at_its_limit() -> None:
    def work() -> None:
        raise DATABASE_ERROR

    with pytest.raises(
        OutageLimitReached, match="the database was unavailable for more than 0 s"
    ) as raised:
        Outages(timedelta(milliseconds=20)).retry(work)
    assert raised.value.__cause__ is DATABASE_ERROR
    assert raised.value.exit_code == 1


def test_other_errors_are_not_retried() -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        raise sa.exc.IntegrityError("INSERT", {}, Exception("duplicate"))

    with pytest.raises(sa.exc.IntegrityError):
        Outages().retry(work)
    assert calls == [1]


def test_the_option_has_the_default_of_the_code() -> None:
    assert parse_duration_option("--outage-limit", DEFAULT_OUTAGE_LIMIT) == (
        retry.DEFAULT_OUTAGE_LIMIT
    )


@pytest.mark.parametrize("text", ["", "soon", "5", "0s", "-1m"])
def test_a_wrong_duration_is_a_usage_error_that_names_the_option(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--outage-limit: got .*; expected "):
        parse_duration_option("--outage-limit", text)


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
