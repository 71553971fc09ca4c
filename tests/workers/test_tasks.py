"""The step tasks: what follows them, and how they return to a gateway that is unavailable."""

import logging
from statistics import mean
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.factory import READY, Plan, backdate_batch, in_gateway, make_batch, move
from tests.support.task_loop import TaskLoop
from tracker.queries.next_step import CHECK_CHAIN
from tracker.record.actions.campaigns import pause_campaign, resume_campaign
from tracker.record.catalog import Batch
from tracker.status import Step
from tracker.store.database import Database
from tracker.store.schema.work import steps
from workers.chains import StepArguments
from workers.gateways.base import GatewayUnavailable
from workers.queues import task_name
from workers.services.base import ServiceUnavailable
from workers.transient import MAX_GATEWAY_BACKOFF_SECONDS, MIN_REAL_BACKOFF_SECONDS, compute_backoff

CHAIN = [task_name(step) for step in CHECK_CHAIN]


@pytest.mark.parametrize(("count", "longest"), [(0, 1), (1, 2), (3, 8), (5, 30), (1_000_000, 30)])
def test_the_backoff_grows_and_varies(count: int, longest: float) -> None:
    delays = [compute_backoff(count, 1).total_seconds() for _ in range(500)]
    assert longest / 2 <= min(delays) < max(delays) <= longest <= MAX_GATEWAY_BACKOFF_SECONDS
    assert mean(delays) == pytest.approx(0.75 * longest, rel=0.05)
    assert len(set(delays)) > 100, "batches that failed together don't return together"


def test_the_backoff_follows_the_clock_of_the_run() -> None:
    assert 0.25 <= compute_backoff(5, 60).total_seconds() <= 0.5
    delays = [compute_backoff(5, 100_000).total_seconds() for _ in range(100)]
    assert MIN_REAL_BACKOFF_SECONDS <= min(delays) < max(delays) <= 2 * MIN_REAL_BACKOFF_SECONDS


class UnavailableGateway:
    def submit(self, *_: object) -> Any:
        raise GatewayUnavailable("connection refused")

    receipts = engagement = submit


@pytest.fixture
def batch(database: Database) -> Batch:
    """Return a batch of two messages: one waits for the gateway, the other is there."""
    batch = make_batch(database, Plan(size=2))
    move(database, batch, [0], READY)
    move(database, batch, [1], READY, in_gateway())
    return batch


@pytest.mark.parametrize("step", [Step.SUBMIT, Step.DELIVER])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_a_batch_returns_however_often_its_gateway_was_unavailable(
    batch: Batch, loop: TaskLoop, caplog: pytest.LogCaptureFixture, step: Step, count: int
) -> None:
    loop.resources.gateway = UnavailableGateway()
    begun = batch.campaign.clock.now()
    earlier = {"unavailable_count": count, "unavailable_since": begun - 1} if count else {}
    loop.enqueue(batch, step, **earlier)
    with caplog.at_level(logging.WARNING, "workers"):
        loop.run_next()
    [again] = loop.queue
    since = again.kwargs.pop("unavailable_since")
    assert since == begun - 1 if count else begun <= since <= batch.campaign.clock.now()
    key = {"campaign": batch.campaign.id, "batch": batch.batch}
    assert (again.name, again.kwargs) == (task_name(step), {**key, "unavailable_count": count + 1})
    assert again.countdown is not None
    assert 0.5 <= again.countdown <= MAX_GATEWAY_BACKOFF_SECONDS
    assert again.request["retries"] == 0, "it may return without end"
    [message] = caplog.messages
    assert message == (
        f"gateway unavailable: campaign={batch.campaign.id} batch=0 step={step}"
        f' retry_in={again.countdown:.1f}s error="GatewayUnavailable: connection refused"'
    )


def test_a_one_off_task_leaves_an_unavailable_gateway_to_the_batch_s_own_task(
    batch: Batch, loop: TaskLoop
) -> None:
    loop.resources.gateway = UnavailableGateway()
    loop.enqueue(batch, Step.DELIVER, is_one_off=True)
    assert loop.run_all() == 1
    assert loop.errors == []


@pytest.mark.parametrize("step", CHECK_CHAIN)
def test_the_steps_before_the_gateway_are_a_chain_from_wherever_it_begins(
    database: Database, loop: TaskLoop, step: Step
) -> None:
    batch = make_batch(database)
    for earlier in CHECK_CHAIN[: CHECK_CHAIN.index(step)]:
        loop.enqueue(batch, earlier)
        loop.run_next()
        loop.queue.clear()
    loop.enqueue(batch, step)
    names = []
    while loop.queue[0].name in CHAIN:
        [task] = loop.queue
        names.append(task.name)
        assert [task.name, *task.chain] == CHAIN[CHAIN.index(task.name) :]
        assert f"'name': '{batch.campaign.name}'" in task.request["kwargsrepr"]
        loop.run_next()
    assert names == CHAIN[CHECK_CHAIN.index(step) :]
    assert [task.name for task in loop.queue] == [task_name(Step.SUBMIT)]


def test_a_step_without_a_chain_continues_from_the_record(
    database: Database, loop: TaskLoop
) -> None:
    """An operator may call a task by hand."""
    batch = make_batch(database)
    loop.send_task(
        task_name(Step.SUPPRESS), kwargs={"campaign": batch.campaign.id, "batch": batch.batch}
    )
    loop.run_next()
    [following] = loop.queue
    assert [following.name, *following.chain][-1] == task_name(Step.DISPATCH)


def test_a_transient_error_is_retried_within_the_chain(
    database: Database, loop: TaskLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch(database)

    def fail(*_: object) -> None:
        raise ServiceUnavailable("the coupon service is unavailable")

    loop.enqueue(batch, Step.VALIDATE)
    with monkeypatch.context() as patch:
        patch.setattr("workers.steps.before_gateway.judge_batch", fail)
        loop.run_next()
    [retried] = loop.queue
    assert (retried.name, retried.chain) == (task_name(Step.VALIDATE), [task_name(Step.DISPATCH)])
    assert retried.request["retries"] == 1
    assert f"'name': '{batch.campaign.name}'" in retried.request["kwargsrepr"]
    loop.run_next()
    assert [task.name for task in loop.queue] == [task_name(Step.DISPATCH)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (StepArguments(campaign=1, batch=0), {"campaign": 1, "batch": 0}),
        (
            StepArguments(campaign=1, batch=2, is_retry=True, refund_first=0),
            {"campaign": 1, "batch": 2, "is_retry": True, "refund_first": 0},
        ),
        (
            StepArguments(campaign=1, batch=2, is_one_off=True, unavailable_count=3),
            {"campaign": 1, "batch": 2, "is_one_off": True, "unavailable_count": 3},
        ),
    ],
)
def test_arguments_are_written_as_they_are_read(
    arguments: StepArguments, expected: dict[str, Any]
) -> None:
    assert arguments.to_kwargs() == expected
    assert StepArguments(**expected) == arguments


def test_unknown_arguments_are_an_error(database: Database, loop: TaskLoop) -> None:
    batch = make_batch(database)
    key = {"campaign": batch.campaign.id, "batch": batch.batch}
    loop.send_task(task_name(Step.SUPPRESS), kwargs={**key, "again": True})
    loop.run_all()
    [error] = loop.errors
    assert "again" in str(error)


def test_a_paused_campaign_goes_on_only_in_the_gateway(
    database: Database, batch: Batch, loop: TaskLoop
) -> None:
    queued = make_batch(database)
    for campaign in (batch.campaign, queued.campaign):
        pause_campaign(database, campaign, actor="asha", reason="")
    before = count_steps(database)
    loop.enqueue(queued, Step.SUPPRESS)
    loop.enqueue(batch, Step.SUBMIT)
    assert loop.run_all() == len(CHECK_CHAIN) + 1, "the rest of the chain, and nothing after it"
    assert loop.errors == [], "the gateway isn't called"
    assert count_steps(database) == before

    backdate_batch(database, batch, receipts_due_at=0)
    loop.enqueue(batch, Step.SUBMIT)
    loop.run_next()
    assert [task.name for task in loop.queue] == [task_name(Step.DELIVER)]
    loop.queue.clear()

    resume_campaign(database, queued.campaign, actor="asha", reason="")
    loop.enqueue(queued, Step.DISPATCH)
    loop.run_next()
    [task] = loop.queue
    assert task.name == task_name(Step.SUPPRESS), "no message is sent unchecked after a pause"


def count_steps(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(steps)) or 0
