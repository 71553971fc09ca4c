"""A message that breaks its step harms itself only."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil, log2
from typing import Any

import pytest
import sqlalchemy as sa
from kombu.exceptions import OperationalError

from tests.support.factory import AUTHOR, READY, Plan, at_once, ended, make_batch, move
from tracker.clock import Instant
from tracker.errors import UsageError
from tracker.queries.report import make_reports
from tracker.queries.timeline import read_timeline
from tracker.record.catalog import Batch
from tracker.record.journal import Move, open_entry
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages
from tracker.store.schema.work import parts
from workers import runtime
from workers.app import app
from workers.candidates import Candidate
from workers.checks.base import check
from workers.gateways.base import PollResult, Submission, SubmissionResult
from workers.gateways.throttle import UnlimitedThrottle
from workers.queues import task_name
from workers.steps.bisection import (
    MAX_MESSAGE_TRIES,
    MAX_POISON_MESSAGES,
    PROCESS_DIED,
    claim_segment,
    complete_segment,
    load_open_segments,
    record_failure,
)
from workers.steps.limits import StepTimeout
from workers.tasks import StepExecutionError

SIZE = 100

BOUND = 2 + 2 * ceil(log2(SIZE)) + MAX_MESSAGE_TRIES + 1
"""Steps on parts of such a batch with one culprit, at the most: all of it twice, both halves each
time, and the culprit alone."""


class Killed(BaseException):
    """The process is gone: nobody hears of it."""


@dataclass
class Poisoned:
    """A gateway that one message breaks. All others are accepted once."""

    culprits: Sequence[int]
    break_down: Callable[[], None]
    accepted: list[int] = field(default_factory=list)
    calls: int = 0

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        self.calls += 1
        if set(self.culprits) & set(submission.numbers):
            self.break_down()
        self.accepted += submission.numbers
        return SubmissionResult({now: submission.numbers})

    def receipts(self, *_: object) -> PollResult[Any]:
        return PollResult([])

    engagement = receipts


def die() -> None:
    raise Killed


def fail() -> None:
    raise ZeroDivisionError("of a gateway's own making")


def hang() -> None:
    raise StepTimeout("not done within 5 s")


def eat() -> None:
    raise MemoryError


@pytest.fixture
def run_all(database: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs tasks, one after the other, until none is left; how many those were."""
    queue: deque[tuple[str, dict[str, Any]]] = deque()

    def apply_async(task: Any, args: Sequence[Any] = (), **options: Any) -> None:
        queue.append((task.name, options["kwargs"]))

    monkeypatch.setattr("celery.app.task.Task.apply_async", apply_async)
    monkeypatch.setattr(runtime, "database", lambda: database)
    monkeypatch.setattr(runtime, "throttle_of", lambda _: UnlimitedThrottle())
    runtime.campaign_name.cache_clear()

    def run(batch: Batch, step: Step, *, most: int = 500) -> int:
        queue.append((task_name(step), {"campaign": batch.campaign.id, "batch": batch.batch}))
        done = 0
        while queue and done < most:
            name, told = queue.popleft()
            done += 1
            try:
                app.tasks[name](**told)
            except Killed:  # Celery sends it again, and says so by its count
                queue.append((name, {**told, "is_retry": True}))
            except StepExecutionError:
                pass  # it has sent itself again
        assert not queue, f"no end after {done} tasks"
        return done

    return run


def status_of(database: Database, batch: Batch) -> dict[int, tuple[Status, int]]:
    with database.read() as connection:
        rows = connection.execute(
            sa.select(messages.c.number, messages.c.status, messages.c.reason).where(
                messages.c.campaign_id == batch.campaign.id
            )
        )
        return {number: (Status(status), reason) for number, status, reason in rows}


@pytest.mark.parametrize("break_down", [die, fail, hang, eat])
@pytest.mark.parametrize("culprits", [(0,), (63,), (99,), (5, 6), (10, 90)])
def test_a_message_that_breaks_its_step_is_stopped_and_the_others_go_on(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    run_all: Callable[..., int],
    break_down: Callable[[], None],
    culprits: Sequence[int],
) -> None:
    batch = make_batch(database, Plan(size=SIZE))
    move(database, batch, list(range(SIZE)), READY)
    gateway = Poisoned(culprits, break_down)
    monkeypatch.setattr(runtime, "gateway_of", lambda _: gateway)
    run_all(batch, Step.SUBMIT)
    assert gateway.calls <= BOUND * len(culprits)
    assert sorted(gateway.accepted) == [each for each in range(SIZE) if each not in culprits]
    ends = status_of(database, batch)
    stopped = (Status.NOT_SENT, Reason.TIMEOUT)
    assert {number for number, end in ends.items() if end == stopped} == set(culprits)
    assert set(ends.values()) == {stopped, (Status.IN_GATEWAY, 0)}
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
        left = connection.execute(sa.select(parts.c.first).where(parts.c.ended_at.is_(None))).all()
        told = [read_timeline(connection, batch.campaign, each).broke for each in culprits]
    assert report.balanced
    assert left == []
    expected = {die: PROCESS_DIED, fail: "ZeroDivision", hang: "StepTimeout", eat: "MemoryError"}
    for found in told:
        assert found is not None
        assert found.step is Step.SUBMIT
        assert expected[break_down] in found.error


def test_a_rule_that_kills_its_process_stops_its_message_only(
    database: Database, monkeypatch: pytest.MonkeyPatch, run_all: Callable[..., int]
) -> None:
    batch = make_batch(database, Plan(size=SIZE))

    @check(Reason.UNSUBSCRIBED, step=Step.SUPPRESS, order=1)
    def deadly(candidate: Candidate, now: datetime) -> bool:
        """It kills."""
        if candidate.customer.number == 41:
            raise Killed
        return False

    monkeypatch.setattr("workers.tasks.checks_of", lambda _: [deadly])
    monkeypatch.setattr(runtime, "gateway_of", lambda _: Poisoned((), fail))
    run_all(batch, Step.SUPPRESS)
    ends = status_of(database, batch)
    assert ends.pop(41) == (Status.NOT_SENT, Reason.TIMEOUT)
    assert set(ends.values()) == {(Status.IN_GATEWAY, 0)}


def test_nobody_is_handed_over_while_a_part_is_not_judged(
    database: Database, monkeypatch: pytest.MonkeyPatch, run_all: Callable[..., int]
) -> None:
    batch = make_batch(database, Plan(size=4))
    for _ in range(2):  # the batch was taken apart, and half of it judged
        taken = claim_segment(database, batch, Step.SUPPRESS, AUTHOR, is_retry=True)
    assert taken is not None
    assert taken.batch.size == 2
    key = {"campaign": batch.campaign.id, "batch": batch.batch}
    judged: list[tuple[Step, int]] = []
    monkeypatch.setattr(
        "workers.steps.before_gateway.judge_batch",
        lambda _database, part, step, *_, **__: judged.append((step, part.size)),
    )
    app.tasks[task_name(Step.SUPPRESS)](**key)
    assert judged == [(Step.SUPPRESS, 2)]
    app.tasks[task_name(Step.DISPATCH)](**key)  # somebody's, who comes too early
    assert {status for status, _ in status_of(database, batch).values()} == {Status.QUEUED}


def test_what_passes_is_no_try(
    database: Database, monkeypatch: pytest.MonkeyPatch, run_all: Callable[..., int]
) -> None:
    batch = make_batch(database, Plan(size=4))
    move(database, batch, [0, 1, 2, 3], READY)

    def away() -> None:
        raise OperationalError("the broker is away")

    monkeypatch.setattr(runtime, "gateway_of", lambda _: Poisoned((0,), away))
    key = {"campaign": batch.campaign.id, "batch": batch.batch, "is_retry": True}
    for _ in range(3):
        with pytest.raises(OperationalError):
            app.tasks[task_name(Step.SUBMIT)].run.__wrapped__(**key)
    with database.read() as connection:
        assert connection.execute(sa.select(parts.c.size, parts.c.tries)).all() == [(4, 0)]


def open_firsts(database: Database, batch: Batch, step: Step) -> list[tuple[int, int, int]]:
    with database.read() as connection:
        known = load_open_segments(connection, batch, step)
    return sorted((part.first, part.size, part.tries) for part in known)


@pytest.mark.parametrize("culprit", [0, 41, 99])
def test_a_batch_may_break_again_after_a_message_of_it_was_stopped(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    run_all: Callable[..., int],
    culprit: int,
) -> None:
    batch = make_batch(database, Plan(size=SIZE))
    move(database, batch, list(range(SIZE)), READY)
    both = Poisoned((culprit, 7), fail)
    monkeypatch.setattr(runtime, "gateway_of", lambda _: Poisoned((culprit,), fail))
    run_all(batch, Step.SUBMIT)
    with database.read() as connection:
        before = read_timeline(connection, batch.campaign, culprit).broke
    # A task that was lost is sent again, and its process dies, as it may of other things as well.
    for _ in range(8):
        taken = claim_segment(database, batch, Step.SUBMIT, AUTHOR, is_retry=True)
        assert taken is not None
        numbers = range(taken.batch.first, taken.batch.last + 1)
        assert culprit not in numbers
    run_all(batch, Step.SUBMIT)
    assert open_firsts(database, batch, Step.SUBMIT) == []
    record_failure(database, batch, batch, Step.SUBMIT, ZeroDivisionError("another"))
    with database.read() as connection:
        assert read_timeline(connection, batch.campaign, culprit).broke == before
    assert culprit not in both.accepted


def test_a_part_is_done_when_nothing_of_it_is_left(
    database: Database, monkeypatch: pytest.MonkeyPatch, run_all: Callable[..., int]
) -> None:
    """A gateway's rate lets some of it go now: that is neither an end nor a try."""
    batch = make_batch(database, Plan(size=8))
    move(database, batch, list(range(8)), READY)
    taken = claim_segment(database, batch, Step.SUBMIT, AUTHOR, is_retry=True)
    assert taken is not None
    go_on(database, batch, [0, 1, 2], [ended(Status.IN_GATEWAY)])
    assert complete_segment(database, taken.batch, Step.SUBMIT) is False
    assert open_firsts(database, batch, Step.SUBMIT) == [(0, 8, 0)]
    gateway = Poisoned((), fail)
    monkeypatch.setattr(runtime, "gateway_of", lambda _: gateway)
    run_all(batch, Step.SUBMIT)
    assert sorted(gateway.accepted) == [3, 4, 5, 6, 7]
    assert open_firsts(database, batch, Step.SUBMIT) == []


def test_what_others_took_apart_meanwhile_is_not_added_once_more(database: Database) -> None:
    batch = make_batch(database, Plan(size=8))
    for _ in range(2):
        taken = claim_segment(database, batch, Step.SUPPRESS, AUTHOR, is_retry=True)
    assert taken is not None
    assert complete_segment(database, taken.batch, Step.SUPPRESS) is True
    record_failure(
        database, batch, batch, Step.SUPPRESS, ZeroDivisionError("of one that came late")
    )
    assert open_firsts(database, batch, Step.SUPPRESS) == [(4, 4, 0)]


def test_those_who_take_the_same_batch_at_once_take_turns(database: Database) -> None:
    batch = make_batch(database, Plan(size=64))
    for _ in range(3):
        at_once(
            *[
                lambda: claim_segment(database, batch, Step.SUPPRESS, AUTHOR, is_retry=True)
                for _ in range(4)
            ]
        )
    known = open_firsts(database, batch, Step.SUPPRESS)
    covered = [number for first, size, _ in known for number in range(first, first + size)]
    assert covered == list(range(64)), "each message in one part"


@pytest.mark.parametrize(("step", "halved"), [(Step.SUPPRESS, 1), (Step.SUBMIT, 0)])
def test_a_gateway_has_as_long_for_few_as_for_many(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    run_all: Callable[..., int],
    step: Step,
    halved: int,
) -> None:
    """What it has sent when its time is over would be sent again."""
    batch = make_batch(database, Plan(size=8))
    if step is Step.SUBMIT:
        move(database, batch, list(range(8)), READY)
    claim_segment(database, batch, step, AUTHOR, is_retry=True)
    told: list[int] = []

    def limited(halved: int) -> Any:
        told.append(halved)
        return nullcontext()

    monkeypatch.setattr("workers.tasks.limit_step_time", limited)
    monkeypatch.setattr(runtime, "gateway_of", lambda _: Poisoned((), fail))
    run_all(batch, step)
    assert told[:2] == [halved, halved]


def test_a_try_counts_not_when_the_database_was_away_even_for_saying_so(
    database: Database, monkeypatch: pytest.MonkeyPatch, run_all: Callable[..., int]
) -> None:
    batch = make_batch(database, Plan(size=1))
    move(database, batch, [0], READY)

    def away(*_: object) -> None:
        raise OperationalError("the database is away")

    monkeypatch.setattr(runtime, "gateway_of", lambda _: Poisoned((0,), away))
    retried: list[dict[str, Any]] = []

    def retry(_task: Any, *, exc: Exception, kwargs: dict[str, Any]) -> Exception:
        retried.append(kwargs)
        return exc

    monkeypatch.setattr("celery.app.task.Task.retry", retry)
    key = {"campaign": batch.campaign.id, "batch": batch.batch, "is_retry": True}
    submit = app.tasks[task_name(Step.SUBMIT)]
    spared: dict[str, Any] = {}
    monkeypatch.setattr("workers.steps.bisection.refund_try", away)
    for _ in range(5):
        with pytest.raises(OperationalError):
            submit.run.__wrapped__(**key, **spared)
        spared = {"refund_first": retried[-1]["refund_first"]}
    assert spared == {"refund_first": 0}
    assert open_firsts(database, batch, Step.SUBMIT) == [(0, 1, 1)]
    mended = Poisoned((), fail)
    monkeypatch.setattr(runtime, "gateway_of", lambda _: mended)
    run_all(batch, Step.SUBMIT)
    assert mended.accepted == [0]


def test_an_error_of_ours_is_no_message_s_doing(
    database: Database, monkeypatch: pytest.MonkeyPatch, run_all: Callable[..., int]
) -> None:
    batch = make_batch(database, Plan(size=4))
    move(database, batch, [0, 1, 2, 3], READY)

    def misconfigured() -> None:
        raise UsageError("there is no such gateway")

    monkeypatch.setattr(runtime, "gateway_of", lambda _: Poisoned((0,), misconfigured))
    for _ in range(3):
        with pytest.raises(UsageError):
            run_all(batch, Step.SUBMIT)
    with database.read() as connection:
        [part] = connection.execute(sa.select(parts)).all()
    assert (part.size, part.tries) == (4, 0)
    assert "no such gateway" in part.error


def test_a_step_that_all_messages_break_is_what_is_broken(
    database: Database, monkeypatch: pytest.MonkeyPatch, run_all: Callable[..., int]
) -> None:
    """A few are stopped until that is known. The rest waits, and goes on when it is mended."""
    batch = make_batch(database, Plan(size=SIZE))
    move(database, batch, list(range(SIZE)), READY)
    monkeypatch.setattr(runtime, "gateway_of", lambda _: Poisoned(range(SIZE), fail))
    run_all(batch, Step.SUBMIT)
    stopped = (Status.NOT_SENT, Reason.TIMEOUT)
    for _ in range(3):  # the sweep sends it on again, and again it breaks
        touched_at = touched(database, batch)
        assert run_all(batch, Step.SUBMIT, most=1) == 1, "not at once"
        assert touched(database, batch) == touched_at, "the sweep takes its time"
    ends = list(status_of(database, batch).values())
    assert ends.count(stopped) == MAX_POISON_MESSAGES
    mended = Poisoned((), fail)
    monkeypatch.setattr(runtime, "gateway_of", lambda _: mended)
    run_all(batch, Step.SUBMIT)
    ends = list(status_of(database, batch).values())
    assert ends.count(stopped) == MAX_POISON_MESSAGES
    assert ends.count((Status.IN_GATEWAY, 0)) == SIZE - MAX_POISON_MESSAGES == len(mended.accepted)


def touched(database: Database, batch: Batch) -> Instant:
    query = sa.select(batches.c.touched_at).where(
        batches.c.campaign_id == batch.campaign.id, batches.c.batch == batch.batch
    )
    with database.read() as connection:
        return int(connection.execute(query).scalar_one())


def test_what_was_sent_before_is_not_stopped_and_does_not_keep_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch, run_all: Callable[..., int]
) -> None:
    batch = make_batch(database, Plan(size=8))
    numbers = list(range(8))
    move(database, batch, numbers, READY)
    move_on = (ended(Status.IN_GATEWAY), ended(Status.SOFT_BOUNCED))
    go_on(database, batch, [3], move_on)
    gateway = Poisoned((3,), die)
    monkeypatch.setattr(runtime, "gateway_of", lambda _: gateway)
    with pytest.raises(Exception, match="can't be stopped"):
        run_all(batch, Step.SUBMIT)
    ends = status_of(database, batch)
    assert ends.pop(3)[0] is Status.SOFT_BOUNCED
    assert {status for status, _ in ends.values()} == {Status.IN_GATEWAY}


def go_on(database: Database, batch: Batch, numbers: Sequence[int], states: Any) -> None:
    source = READY
    for target in states:
        now = batch.campaign.clock.now()
        with open_entry(database, batch, Step.SUBMIT, AUTHOR, started_at=now) as written:
            written.move(Move(numbers=numbers, source=source, target=target, at=now))
        source = target
