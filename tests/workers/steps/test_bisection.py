"""A message that breaks its step harms itself only."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil, log2
from typing import Any

import pytest
import sqlalchemy as sa
from kombu.exceptions import OperationalError

from tests.support.factory import (
    READY,
    Plan,
    find_violations,
    in_status,
    make_batch,
    move,
    read_credit,
    read_notes,
    run_concurrently,
    step_context,
)
from tests.support.task_loop import TaskKilled, TaskLoop
from tracker.clock import Instant
from tracker.errors import UsageError
from tracker.queries.failures import read_failures
from tracker.queries.report import make_reports
from tracker.queries.timeline import read_timeline
from tracker.record.catalog import Batch
from tracker.record.journal import Move, State
from tracker.record.predicates import is_of_batch
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages
from tracker.store.schema.work import parts
from workers.candidates import Candidate
from workers.checks.base import check
from workers.gateways.base import PollResult, Submission, SubmissionResult
from workers.queues import task_name
from workers.steps import bisection
from workers.steps.bisection import (
    MAX_MESSAGE_TRIES,
    MAX_POISON_MESSAGES,
    StepExecutionError,
    UnblockableMessage,
    claim_segment,
    complete_segment,
    record_failure,
)
from workers.steps.context import StepContext
from workers.steps.limits import StepTimeout
from workers.steps.segments import PROCESS_DIED, SegmentStore

SIZE = 100

MAX_CALLS = 2 + 2 * ceil(log2(SIZE)) + MAX_MESSAGE_TRIES + 1
"""Most runs of a step on a batch with one poison message: the whole batch twice, both halves each
time, and the message by itself."""

BLOCKED = (Status.NOT_SENT, Reason.STEP_FAILED)
TIMED_OUT = (Status.NOT_SENT, Reason.TIMEOUT)
ACCEPTED = (Status.IN_GATEWAY, 0)


@dataclass
class PoisonedGateway:
    """A gateway that fails when it is offered a poison message, and accepts all others once."""

    poison: Sequence[int]
    fail: Callable[[], None]
    accepted: list[int] = field(default_factory=list)
    calls: int = 0

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        self.calls += 1
        if set(self.poison) & set(submission.numbers):
            self.fail()
        self.accepted += submission.numbers
        return SubmissionResult({now: submission.numbers})

    def receipts(self, *_: object) -> PollResult[Any]:
        return PollResult([])

    engagement = receipts


def die() -> None:
    raise TaskKilled


def raise_error() -> None:
    raise ZeroDivisionError("of a gateway's own making")


def hang() -> None:
    raise StepTimeout("not done within 5 s")


def exhaust_memory() -> None:
    raise MemoryError


def lose_broker(*_: object) -> None:
    raise OperationalError("the broker is unavailable")


def ready_batch(database: Database, size: int) -> Batch:
    """Return a batch whose messages wait for the gateway."""
    batch = make_batch(database, Plan(size=size))
    move(database, batch, list(range(size)), READY)
    return batch


def read_statuses(database: Database, batch: Batch) -> dict[int, tuple[Status, int]]:
    query = sa.select(messages.c.number, messages.c.status, messages.c.reason).where(
        messages.c.campaign_id == batch.campaign.id
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    return {number: (Status(status), reason) for number, status, reason in rows}


def open_segments(database: Database, batch: Batch, step: Step) -> list[tuple[int, int, int]]:
    """Return the first number, the size and the tries of each open segment."""
    with database.read() as connection:
        segments = SegmentStore(connection, batch, step).load_open()
    return sorted((segment.first, segment.size, segment.tries) for segment in segments)


def claim(database: Database, batch: Batch, step: Step, times: int = 1) -> Any:
    """Claim segments as tasks whose processes then die, and return the last segment."""
    for _ in range(times):
        segment = claim_segment(step_context(database, batch), step, is_retry=True)
    assert segment is not None
    return segment


@pytest.mark.parametrize(
    ("fail", "poison"),
    [
        *((die, poison) for poison in ((0,), (99,), (5, 6), (10, 90))),
        *((raise_error, poison) for poison in ((0,), (5, 6))),
        (hang, (63,)),
        (exhaust_memory, (10, 90)),
    ],
)
def test_a_message_that_breaks_its_step_is_blocked_and_the_others_go_on(
    database: Database, loop: TaskLoop, fail: Callable[[], None], poison: Sequence[int]
) -> None:
    batch = ready_batch(database, SIZE)
    loop.resources.gateway = gateway = PoisonedGateway(poison, fail)
    loop.enqueue(batch, Step.SUBMIT)
    loop.run_all()
    assert gateway.calls <= MAX_CALLS * len(poison)
    assert sorted(gateway.accepted) == [number for number in range(SIZE) if number not in poison]
    blocked = TIMED_OUT if fail is hang else BLOCKED
    statuses = read_statuses(database, batch)
    assert {number for number, status in statuses.items() if status == blocked} == set(poison)
    assert set(statuses.values()) == {blocked, ACCEPTED}
    assert open_segments(database, batch, Step.SUBMIT) == []
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
        failures = [read_timeline(connection, batch.campaign, number).failure for number in poison]
        [recorded] = read_failures(connection, [batch.campaign.id])
    assert report.is_balanced
    assert (recorded.reason, recorded.check, recorded.messages) == (blocked[1], None, len(poison))
    expected = {
        die: PROCESS_DIED,
        raise_error: "ZeroDivision",
        hang: "StepTimeout",
        exhaust_memory: "MemoryError",
    }
    for failure in failures:
        assert failure is not None
        assert failure.step is Step.SUBMIT
        assert expected[fail] in failure.error
    assert read_notes(database, batch) == {
        number: failure.error for number, failure in zip(poison, failures, strict=True) if failure
    }


@pytest.mark.parametrize("fail", [die, hang])
def test_a_rule_that_breaks_its_step_blocks_its_message_only(
    database: Database,
    loop: TaskLoop,
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[[], None],
) -> None:
    """The step is repeated within its chain until it is done with the batch; then that goes on."""
    batch = make_batch(database, Plan(size=SIZE))

    @check(Reason.UNSUBSCRIBED, step=Step.SUPPRESS, order=1)
    def deadly(candidate: Candidate, now: datetime) -> bool:
        """Break the step."""
        if candidate.customer.number == 41:
            fail()
        return False

    monkeypatch.setattr(
        "workers.tasks.checks_of", lambda step: [deadly] if step is Step.SUPPRESS else []
    )
    loop.resources.gateway = PoisonedGateway((), raise_error)
    loop.enqueue(batch, Step.SUPPRESS)
    names = list(run_names(loop))
    statuses = read_statuses(database, batch)
    assert statuses.pop(41) == (TIMED_OUT if fail is hang else BLOCKED)
    if fail is die:
        assert read_notes(database, batch)[41] == f"check deadly: {PROCESS_DIED}"
    assert set(statuses.values()) == {ACCEPTED}
    suppressing = names.count("workers.suppress")
    assert suppressing > 3
    assert names[suppressing:] == ["workers.validate", "workers.dispatch", "workers.submit"] + [
        "workers.deliver"
    ] * (len(names) - suppressing - 3)


def test_a_process_that_dies_after_its_checks_blames_none(
    database: Database, loop: TaskLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch(database, Plan(size=4))
    entry = StepContext.entry

    def die_with_number_2(context: StepContext, step: Step, **keys: Any) -> Any:
        is_suspect = context.batch.size > 1 or context.announce_check is not None
        if step is Step.SUPPRESS and is_suspect and context.batch.first <= 2 <= context.batch.last:
            die()
        return entry(context, step, **keys)

    monkeypatch.setattr(StepContext, "entry", die_with_number_2)
    loop.resources.gateway = PoisonedGateway((), raise_error)
    loop.enqueue(batch, Step.SUPPRESS)
    loop.run_all()
    assert read_statuses(database, batch)[2] == BLOCKED
    assert read_notes(database, batch) == {2: PROCESS_DIED}


@pytest.mark.parametrize("fail", [die, raise_error, hang])
def test_credit_is_refunded_for_a_message_that_breaks_the_gateway(
    database: Database, loop: TaskLoop, fail: Callable[[], None]
) -> None:
    batch = make_batch(database, Plan(size=4, credit=10))
    loop.resources.gateway = PoisonedGateway((2,), fail)
    loop.enqueue(batch, Step.SUPPRESS)
    loop.run_all()
    assert [status for status, _ in read_statuses(database, batch).values()] == [
        Status.IN_GATEWAY,
        Status.IN_GATEWAY,
        Status.NOT_SENT,
        Status.IN_GATEWAY,
    ]
    assert read_credit(database, batch.campaign) == 7
    assert find_violations(database, batch.campaign) == []


def run_names(loop: TaskLoop) -> Iterator[str]:
    """Run tasks until none is left; their names."""
    while loop.queue:
        yield loop.queue[0].name
        loop.run_next()


def test_no_message_is_dispatched_while_a_segment_is_not_judged(
    database: Database, loop: TaskLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch(database, Plan(size=4))
    assert claim(database, batch, Step.SUPPRESS, times=2).size == 2
    judged: list[tuple[Step, int]] = []

    def judge(context: StepContext, step: Step, *_: object) -> None:
        judged.append((step, context.batch.size))

    monkeypatch.setattr("workers.steps.before_gateway.judge_batch", judge)
    loop.enqueue(batch, Step.SUPPRESS)
    loop.run_next()
    assert judged == [(Step.SUPPRESS, 2)]
    [again] = loop.queue
    assert (again.name, again.chain) == (
        task_name(Step.SUPPRESS),
        [task_name(Step.VALIDATE), task_name(Step.DISPATCH)],
    )
    loop.queue.clear()
    loop.enqueue(batch, Step.DISPATCH)  # another task, too early
    loop.run_next()
    assert {status for status, _ in read_statuses(database, batch).values()} == {Status.QUEUED}


def test_a_transient_error_is_no_try(database: Database, loop: TaskLoop) -> None:
    batch = ready_batch(database, 4)
    loop.resources.gateway = PoisonedGateway((0,), lose_broker)
    loop.enqueue(batch, Step.SUBMIT, is_retry=True)
    for retries in range(1, 4):
        loop.run_next()
        [retried] = loop.queue
        assert retried.request["retries"] == retries
        assert open_segments(database, batch, Step.SUBMIT) == [(0, 4, 0)]


@pytest.mark.parametrize("poison", [0, 41, 99])
def test_a_batch_may_fail_again_after_a_message_of_it_was_blocked(
    database: Database, loop: TaskLoop, poison: int
) -> None:
    batch = ready_batch(database, SIZE)
    loop.resources.gateway = PoisonedGateway((poison,), raise_error)
    loop.enqueue(batch, Step.SUBMIT)
    loop.run_all()
    with database.read() as connection:
        before = read_timeline(connection, batch.campaign, poison).failure
    # A lost task is sent again, and its process dies, as it may for other reasons as well.
    for _ in range(8):
        segment = claim(database, batch, Step.SUBMIT)
        assert poison not in range(segment.first, segment.first + segment.size)
    loop.enqueue(batch, Step.SUBMIT)
    loop.run_all()
    assert open_segments(database, batch, Step.SUBMIT) == []
    record_failure(
        step_context(database, batch), Step.SUBMIT, None, ZeroDivisionError("another error")
    )
    with database.read() as connection:
        assert read_timeline(connection, batch.campaign, poison).failure == before


def test_a_segment_is_done_when_no_message_of_it_is_left(
    database: Database, loop: TaskLoop
) -> None:
    """A gateway's rate lets some messages through: the segment stays open, and that is no try."""
    batch = ready_batch(database, 8)
    segment = claim(database, batch, Step.SUBMIT)
    move_ready(database, batch, [0, 1, 2], [in_status(Status.IN_GATEWAY)])
    assert complete_segment(step_context(database, batch), Step.SUBMIT, segment) is False
    assert open_segments(database, batch, Step.SUBMIT) == [(0, 8, 0)]
    loop.resources.gateway = gateway = PoisonedGateway((), raise_error)
    loop.enqueue(batch, Step.SUBMIT)
    loop.run_all()
    assert sorted(gateway.accepted) == [3, 4, 5, 6, 7]
    assert open_segments(database, batch, Step.SUBMIT) == []


def test_a_late_failure_adds_no_segment_to_those_of_another_worker(database: Database) -> None:
    batch = make_batch(database, Plan(size=8))
    context = step_context(database, batch)
    segment = claim(database, batch, Step.SUPPRESS, times=2)
    assert complete_segment(context, Step.SUPPRESS, segment) is True
    record_failure(context, Step.SUPPRESS, None, ZeroDivisionError("of a late worker"))
    assert open_segments(database, batch, Step.SUPPRESS) == [(4, 4, 0)]


def test_workers_that_claim_the_same_batch_at_once_take_turns(database: Database) -> None:
    batch = make_batch(database, Plan(size=64))
    for _ in range(3):
        run_concurrently(*[lambda: claim(database, batch, Step.SUPPRESS) for _ in range(4)])
    segments = open_segments(database, batch, Step.SUPPRESS)
    covered = [number for first, size, _ in segments for number in range(first, first + size)]
    assert covered == list(range(64)), "each message in one segment"


@pytest.mark.parametrize(("step", "halvings"), [(Step.SUPPRESS, 1), (Step.SUBMIT, 0)])
def test_a_gateway_has_as_long_for_few_messages_as_for_many(
    database: Database,
    loop: TaskLoop,
    monkeypatch: pytest.MonkeyPatch,
    step: Step,
    halvings: int,
) -> None:
    """Messages that it sends after its time would be sent again."""
    batch = make_batch(database, Plan(size=8))
    if step is Step.SUBMIT:
        move(database, batch, list(range(8)), READY)
    claim(database, batch, step)
    limits: list[int] = []

    def limit_step_time(halvings: int) -> Any:
        limits.append(halvings)
        return nullcontext()

    monkeypatch.setattr(bisection, "limit_step_time", limit_step_time)
    loop.resources.gateway = PoisonedGateway((), raise_error)
    loop.enqueue(batch, step)
    loop.run_all()
    assert limits[:2] == [halvings, halvings]


def test_a_try_counts_only_if_the_database_was_available_to_record_it(
    database: Database, loop: TaskLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = ready_batch(database, 1)
    loop.resources.gateway = PoisonedGateway((0,), lose_broker)
    loop.enqueue(batch, Step.SUBMIT, is_retry=True)
    with monkeypatch.context() as patch:
        patch.setattr(bisection, "refund_try", lose_broker)
        for _ in range(5):
            loop.run_next()
            [retried] = loop.queue
            assert retried.kwargs["refund_first"] == 0
            assert open_segments(database, batch, Step.SUBMIT) == [(0, 1, 1)]
    loop.resources.gateway = mended = PoisonedGateway((), raise_error)
    loop.run_all()
    assert mended.accepted == [0]


def test_a_wrong_configuration_is_no_message_s_fault(database: Database, loop: TaskLoop) -> None:
    batch = ready_batch(database, 4)

    def misconfigured() -> None:
        raise UsageError("unknown gateway")

    loop.resources.gateway = PoisonedGateway((0,), misconfigured)
    for _ in range(3):
        loop.enqueue(batch, Step.SUBMIT)
        assert loop.run_all() == 1, "left to the sweep"
        assert isinstance(loop.errors.pop(), UsageError)
    with database.read() as connection:
        [segment] = connection.execute(sa.select(parts)).all()
    assert (segment.size, segment.tries) == (4, 0)
    assert "unknown gateway" in segment.error


def test_a_gateway_that_is_not_installed_bisects_no_batch(
    database: Database, loop: TaskLoop
) -> None:
    batch = make_batch(database, Plan(size=4, gateway_kind="acme"))
    loop.enqueue(batch, Step.SUPPRESS)
    assert loop.run_all() == 1, "left to the sweep"
    [error] = loop.errors
    assert isinstance(error, UsageError)
    assert "unknown gateway 'acme'" in str(error)
    assert {status for status, _ in read_statuses(database, batch).values()} == {Status.QUEUED}


def test_a_step_that_all_messages_break_is_itself_broken(
    database: Database, loop: TaskLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """A few messages are blocked until that is known. The others wait until it is repaired."""
    size = MAX_POISON_MESSAGES + 6
    batch = ready_batch(database, size)
    loop.resources.gateway = PoisonedGateway(range(size), raise_error)
    loop.enqueue(batch, Step.SUBMIT)
    loop.run_all()
    caplog.clear()
    for _ in range(3):  # the sweep re-queues it, and it fails again
        touched_at = read_touched_at(database, batch)
        loop.enqueue(batch, Step.SUBMIT)
        assert loop.run_all() == 1, "not immediately"
        assert read_touched_at(database, batch) == touched_at, "the sweep waits longer each time"
    assert {type(error) for error in loop.errors} == {StepExecutionError}
    events = {(log.levelname, log.getMessage()) for log in caplog.records if "workers" in log.name}
    assert events == {
        (
            "ERROR",
            f"step failed: campaign={batch.campaign.id} batch=0 step=submit"
            ' error="ZeroDivisionError: of a gateway\'s own making"',
        )
    }
    assert list(read_statuses(database, batch).values()).count(BLOCKED) == MAX_POISON_MESSAGES
    loop.resources.gateway = repaired = PoisonedGateway((), raise_error)
    loop.enqueue(batch, Step.SUBMIT)
    loop.run_all()
    statuses = list(read_statuses(database, batch).values())
    assert statuses.count(BLOCKED) == MAX_POISON_MESSAGES
    assert statuses.count(ACCEPTED) == size - MAX_POISON_MESSAGES == len(repaired.accepted)


def read_touched_at(database: Database, batch: Batch) -> Instant:
    query = sa.select(batches.c.touched_at).where(is_of_batch(batches, batch))
    with database.read() as connection:
        return int(connection.execute(query).scalar_one())


def test_a_poison_message_that_was_sent_before_is_not_blocked_and_holds_up_no_other(
    database: Database, loop: TaskLoop
) -> None:
    batch = ready_batch(database, 8)
    move_ready(database, batch, [3], [in_status(Status.IN_GATEWAY), in_status(Status.SOFT_BOUNCED)])
    loop.resources.gateway = PoisonedGateway((3,), die)
    loop.enqueue(batch, Step.SUBMIT)
    loop.run_all()
    [error] = loop.errors
    assert isinstance(error, UnblockableMessage)
    statuses = read_statuses(database, batch)
    assert statuses.pop(3)[0] is Status.SOFT_BOUNCED
    assert {status for status, _ in statuses.values()} == {Status.IN_GATEWAY}


def move_ready(
    database: Database, batch: Batch, numbers: Sequence[int], states: Sequence[State]
) -> None:
    """Take messages that wait for the gateway through some states."""
    source = READY
    for target in states:
        context = step_context(database, batch)
        with context.entry(Step.SUBMIT, started_at=context.now()) as written:
            written.move(Move(numbers=numbers, source=source, target=target, at=context.now()))
        source = target
