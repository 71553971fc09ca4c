"""How tasks come back to a gateway that is away."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

import pytest

from tests.support.factory import READY, Plan, in_gateway, make_batch, move
from tracker.status import Step
from tracker.store.database import Database
from workers import runtime
from workers.app import app
from workers.gateways.base import Gateway, GatewayUnavailable
from workers.queues import task_name
from workers.tasks import MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS, compute_backoff


@pytest.mark.parametrize(("away", "longest"), [(0, 1), (1, 2), (3, 8), (5, 30), (1_000_000, 30)])
def test_pauses_grow_and_differ(away: int, longest: float) -> None:
    waits = [compute_backoff(away, 1).total_seconds() for _ in range(500)]
    assert longest / 2 <= min(waits) < max(waits) <= longest <= MAX_BACKOFF_SECONDS
    assert mean(waits) == pytest.approx(0.75 * longest, rel=0.05)
    assert len(set(waits)) > 100, "who waited together does not come back together"


def test_pauses_follow_the_clock_of_the_run() -> None:
    assert 0.25 <= compute_backoff(5, 60).total_seconds() <= 0.5
    shortest = [compute_backoff(5, 100_000).total_seconds() for _ in range(100)]
    assert MIN_BACKOFF_SECONDS <= min(shortest) < max(shortest) <= 2 * MIN_BACKOFF_SECONDS


class Away:
    def submit(self, *_: object) -> Any:
        raise GatewayUnavailable("gone fishing")

    receipts = engagement = submit


@pytest.mark.parametrize("step", [Step.SUBMIT, Step.DELIVER])
@pytest.mark.parametrize("away", [0, 1, 40])
def test_a_batch_comes_back_however_often_its_gateway_was_away(
    database: Database, monkeypatch: pytest.MonkeyPatch, step: Step, away: int
) -> None:
    batch = make_batch(database, Plan(size=2))
    move(database, batch, [0], READY)
    move(database, batch, [1], READY, in_gateway())
    gateway: Gateway = Away()
    monkeypatch.setattr(runtime, "database", lambda: database)
    monkeypatch.setattr(runtime, "gateway_of", lambda _: gateway)
    sent: list[tuple[str, Any]] = []

    def apply_async(task: Any, args: Sequence[Any] = (), **options: Any) -> None:
        sent.append((task.name, options))

    monkeypatch.setattr("celery.app.task.Task.apply_async", apply_async)
    key = {"campaign": batch.campaign.id, "batch": batch.batch}
    told = {"unavailable_count": away} if away else {}
    app.tasks[task_name(step)](**key, **told)
    [(name, options)] = sent
    assert (name, options["kwargs"]) == (task_name(step), {**key, "unavailable_count": away + 1})
    assert 0.5 <= options["countdown"] <= MAX_BACKOFF_SECONDS
