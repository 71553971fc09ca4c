"""Rules that defer messages, and rules that judge again at dispatch."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from tests.support.factory import AUTHOR, Plan, find_violations, make_campaign, step_context
from tests.support.inline_runs import run_step
from tests.support.statements import executed
from tracker.clock import Instant, from_datetime, from_seconds
from tracker.queries.next_step import (
    CHECK_CHAIN,
    CHECK_STEPS,
    MIN_POLL_INTERVAL,
    NextStep,
    next_step,
)
from tracker.queries.report import make_reports
from tracker.record.catalog import Batch, load_batch
from tracker.record.deferrals import read_deferrals
from tracker.record.journal import enqueue_batch
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches, customers, organizations, runs
from tracker.store.schema.messages import messages, transition_details
from workers.candidates import Candidate
from workers.checks import base
from workers.checks.base import Check, Defer, check, sort_checks
from workers.services.base import load_services
from workers.steps import before_gateway
from workers.steps.bisection import SegmentsLeft, bisecting, record_failure
from workers.steps.segments import SegmentStore

HOUR = timedelta(hours=1)

Verdict = Callable[[Candidate, datetime], bool | Defer]


@pytest.fixture
def batch(database: Database) -> Batch:
    """Return a batch of ten queued messages."""
    campaign = make_campaign(database, Plan(size=10))
    return enqueue_batch(database, campaign, batch=0, first=0, size=10, author=AUTHOR)


@pytest.fixture
def rule(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that installs a rule besides the shipped checks."""

    def install(
        verdict: Verdict, step: Step = Step.SUPPRESS, name: str = "third", **options: bool
    ) -> None:
        def third(candidate: Candidate, now: datetime) -> bool | Defer:
            """Decide as the test says."""
            return verdict(candidate, now)

        third.__name__ = name
        added: Check = check(Reason.CUSTOM_RULE, step=step, order=25, **options)(third)  # type: ignore[arg-type]
        checks = sort_checks([*base.all_checks(), added])
        monkeypatch.setattr(base, "all_checks", lambda: checks)

    return install


def run_chain(database: Database, batch: Batch) -> None:
    for step in CHECK_CHAIN:
        run_step(database, batch, step)


def pass_time(database: Database, by: timedelta) -> None:
    """Put the run's clock forward."""
    with database.write() as connection:
        connection.execute(
            sa.update(runs).values(ahead=runs.c.ahead + from_seconds(by.total_seconds()))
        )


def read_statuses(database: Database) -> list[Status]:
    with database.read() as connection:
        query = sa.select(messages.c.status).order_by(messages.c.number)
        return [Status(status) for status in connection.scalars(query)]


def deferred_numbers(database: Database, batch: Batch) -> list[int]:
    """Return the deferred messages; the report, the batch and the invariants agree on them."""
    with database.read() as connection:
        numbers = sorted(read_deferrals(connection, batch))
        [report] = make_reports(connection, [batch.campaign])
        loaded = load_batch(connection, batch.campaign.id, batch.batch)
    assert find_violations(database, batch.campaign) == []
    assert report.deferred == loaded.deferred == len(numbers)
    assert report.as_json()["in_progress"]["deferred"] == len(numbers)
    assert report.is_balanced
    return numbers


def is_third(candidate: Candidate) -> bool:
    return candidate.number % 3 == 0


THIRDS = [0, 3, 6, 9]


def test_deferred_messages_wait_for_their_time_and_are_judged_again(
    database: Database, batch: Batch, rule: Callable[..., None]
) -> None:
    """Two of the deferred messages pass at their time; the rule defers the other ones again."""
    started_at: list[datetime] = []

    def verdict(candidate: Candidate, now: datetime) -> bool | Defer:
        started_at.append(now)
        is_due = candidate.number < 6 and now > started_at[0] + HOUR
        return Defer(now + HOUR) if is_third(candidate) and not is_due else False

    rule(verdict)
    run_chain(database, batch)
    assert deferred_numbers(database, batch) == THIRDS
    statuses = read_statuses(database)
    assert [number for number in range(10) if statuses[number] is Status.QUEUED] == THIRDS
    assert statuses.count(Status.ABOUT_TO_BE_SENT) == 6
    run_step(database, batch, Step.DISPATCH)
    assert deferred_numbers(database, batch) == THIRDS, "not due yet"
    with executed(database) as statements:
        run_step(database, batch, Step.SUBMIT)
    assert not [text for text, _ in statements if "deferrals" in text], "not counted again"
    pass_time(database, HOUR)
    run_step(database, batch, Step.DISPATCH)
    assert deferred_numbers(database, batch) == [6, 9]
    statuses = read_statuses(database)
    assert [statuses[number] for number in (0, 3)] == [Status.ABOUT_TO_BE_SENT] * 2


def test_other_checks_of_both_steps_judge_a_message_at_its_new_time(
    database: Database, rule: Callable[..., None]
) -> None:
    """A customer who loses the email address or unsubscribes meanwhile gets no message."""
    campaign = make_campaign(database, Plan(size=3))
    batch = enqueue_batch(database, campaign, batch=0, first=0, size=3, author=AUTHOR)
    first: list[datetime] = []

    def verdict(_candidate: Candidate, now: datetime) -> bool | Defer:
        first.append(now)
        return Defer(now + HOUR) if now < first[0] + HOUR else False

    rule(verdict)
    run_chain(database, batch)
    assert deferred_numbers(database, batch) == [0, 1, 2]
    with database.write() as connection:
        connection.execute(
            sa.update(customers).where(customers.c.number == 0).values(unsubscribed_email=True)
        )
        connection.execute(sa.update(customers).where(customers.c.number == 1).values(email=None))
    pass_time(database, HOUR)
    run_step(database, batch, Step.DISPATCH)
    assert deferred_numbers(database, batch) == []
    with database.read() as connection:
        rows = connection.execute(
            sa.select(messages.c.status, messages.c.reason).order_by(messages.c.number)
        ).all()
    assert [tuple(row) for row in rows] == [
        (Status.NOT_SENT, Reason.UNSUBSCRIBED),
        (Status.NOT_SENT, Reason.EMAIL_MISSING),
        (Status.ABOUT_TO_BE_SENT, 0),
    ]


def test_a_message_waits_at_most_as_long_as_the_run_allows(
    database: Database, batch: Batch, rule: Callable[..., None]
) -> None:
    with database.write() as connection:
        connection.execute(sa.update(runs).values(defer_at_most=from_seconds(3 * 3600)))

    def verdict(candidate: Candidate, now: datetime) -> bool | Defer:
        return Defer(now + 2 * HOUR) if is_third(candidate) else False

    rule(verdict)
    run_chain(database, batch)
    with database.read() as connection:
        first = read_deferrals(connection, batch)[0]
    pass_time(database, 2 * HOUR)
    run_step(database, batch, Step.DISPATCH)
    assert deferred_numbers(database, batch) == THIRDS
    with database.read() as connection:
        second = read_deferrals(connection, batch)[0]
    assert second.first_deferred_at == first.first_deferred_at
    assert second.until == first.first_deferred_at + from_seconds(3 * 3600), "not for 4 hours"
    pass_time(database, HOUR)
    run_step(database, batch, Step.DISPATCH)
    assert deferred_numbers(database, batch) == []
    with database.read() as connection:
        rows = connection.execute(
            sa.select(messages.c.number, transition_details.c.check_name)
            .join(transition_details, transition_details.c.number == messages.c.number)
            .where(messages.c.reason == Reason.CUSTOM_RULE)
            .order_by(messages.c.number)
        ).all()
    assert [tuple(row) for row in rows] == [(number, "third") for number in THIRDS]


@pytest.mark.parametrize("again", [False, True])
def test_a_rule_may_judge_again_at_dispatch(
    database: Database, batch: Batch, rule: Callable[..., None], again: bool
) -> None:
    """Between checks and dispatch, the rule changes its mind."""
    calls: list[int] = []

    def verdict(candidate: Candidate, now: datetime) -> bool | Defer:
        calls.append(candidate.number)
        if len(calls) <= 10 or not is_third(candidate):
            return False
        return True if candidate.number == 3 else Defer(now + HOUR)

    rule(verdict, Step.VALIDATE, again_at_dispatch=again)
    run_chain(database, batch)
    assert len(calls) == (20 if again else 10)
    assert deferred_numbers(database, batch) == ([0, 6, 9] if again else [])
    counts = [read_statuses(database).count(status) for status in (Status.NOT_SENT, Status.QUEUED)]
    assert counts == ([1, 3] if again else [0, 0])


def test_a_message_that_is_blocked_at_dispatch_costs_no_credit(
    database: Database, rule: Callable[..., None]
) -> None:
    """All messages were queued when the step began; its own moves count at once."""
    campaign = make_campaign(database, Plan(size=10, credit=100))
    batch = enqueue_batch(database, campaign, batch=0, first=0, size=10, author=AUTHOR)
    calls: list[int] = []

    def verdict(candidate: Candidate, _now: datetime) -> bool:
        calls.append(candidate.number)
        return calls.count(candidate.number) > 1 and candidate.number < 4

    rule(verdict, again_at_dispatch=True)
    run_chain(database, batch)
    assert read_statuses(database).count(Status.NOT_SENT) == 4
    with database.read() as connection:
        assert connection.scalar(sa.select(organizations.c.credit)) == 94


def test_a_check_that_blocks_wins_over_one_that_defers(
    database: Database, rule: Callable[..., None]
) -> None:
    campaign = make_campaign(database, Plan(size=2), {0: {"unsubscribed_email": True}})
    batch = enqueue_batch(database, campaign, batch=0, first=0, size=2, author=AUTHOR)
    rule(lambda _candidate, now: Defer(now + HOUR))
    run_chain(database, batch)
    assert read_statuses(database) == [Status.NOT_SENT, Status.QUEUED]
    assert deferred_numbers(database, batch) == [1]


def test_a_batch_that_was_loaded_before_a_deferral_is_not_dispatched_unjudged(
    database: Database, batch: Batch, rule: Callable[..., None]
) -> None:
    """Another worker deferred the messages after this one had loaded the batch."""
    rule(lambda _candidate, now: Defer(now + timedelta(microseconds=1)))
    for step in CHECK_CHAIN[:-1]:
        run_step(database, batch, step)
    assert batch.deferred == 0
    services = load_services(batch.campaign, database)
    before_gateway.dispatch(step_context(database, batch), services)
    assert read_statuses(database) == [Status.QUEUED] * 10


@pytest.mark.parametrize("longer", [Step.SUPPRESS, Step.VALIDATE])
def test_the_longest_deferral_of_both_steps_counts(
    database: Database, batch: Batch, rule: Callable[..., None], longer: Step
) -> None:
    waits = dict.fromkeys(CHECK_STEPS, HOUR) | {longer: 2 * HOUR}

    def defer_for(wait: timedelta) -> Verdict:
        return lambda _candidate, now: Defer(now + wait)

    for step, wait in waits.items():
        rule(defer_for(wait), step, name=f"waits_in_{step}")
    run_chain(database, batch)
    with database.read() as connection:
        deferrals = read_deferrals(connection, batch)
    assert len(deferrals) == 10
    for deferral in deferrals.values():
        assert deferral.check_name == f"waits_in_{longer}"
        assert deferral.until - deferral.first_deferred_at >= from_seconds(2 * 3600)


def test_repeated_deferrals_for_a_moment_make_no_tight_loop(
    database: Database, batch: Batch, rule: Callable[..., None]
) -> None:
    rule(lambda _candidate, now: Defer(now + timedelta(microseconds=1)))
    run_chain(database, batch)
    assert deferred_numbers(database, batch) == list(range(10))
    for completed in (Step.DISPATCH, Step.DELIVER, Step.ENGAGE):
        following = next_step(database, batch, completed=completed)
        assert following == NextStep(Step.DISPATCH, MIN_POLL_INTERVAL)


def test_deferred_messages_leave_no_segment_open(
    database: Database, batch: Batch, rule: Callable[..., None]
) -> None:
    """A dispatch that was bisected ends though messages of its segments wait."""
    rule(lambda candidate, now: Defer(now + HOUR) if is_third(candidate) else False)
    for step in CHECK_CHAIN[:-1]:
        run_step(database, batch, step)
    context = step_context(database, batch)
    record_failure(context, Step.DISPATCH, None, RuntimeError("once"))
    with database.read() as connection:
        loaded = load_batch(connection, batch.campaign.id, batch.batch)
    context = replace(context, batch=loaded)
    services = load_services(batch.campaign, database)
    for _ in range(20):
        try:
            with bisecting(
                context, Step.DISPATCH, is_retry=False, refund_first=None, transient_errors=()
            ) as narrowed:
                before_gateway.dispatch(narrowed, services)
            break
        except SegmentsLeft:
            continue
    assert deferred_numbers(database, batch) == THIRDS
    with database.read() as connection:
        assert SegmentStore(connection, loaded, Step.DISPATCH).load_open() == []
    following = next_step(database, loaded)
    assert following is not None
    assert following.step is Step.SUBMIT


def test_the_time_of_the_batch_is_that_of_its_first_message(
    database: Database, batch: Batch, rule: Callable[..., None]
) -> None:
    due: list[Instant] = []

    def verdict(candidate: Candidate, now: datetime) -> Defer:
        until = now + (10 - candidate.number) * HOUR
        due.append(from_datetime(until))
        return Defer(until)

    rule(verdict)
    run_step(database, batch, Step.SUPPRESS)
    with database.read() as connection:
        assert connection.scalar(sa.select(batches.c.deferral_due_at)) == min(due)
