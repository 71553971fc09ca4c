"""Each step function alone, on small batches: which messages it moves, and which it doesn't."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, pairwise

import pytest
import sqlalchemy as sa

from simulator.schema import acceptances
from simulator.world import ledger
from simulator.world.gateway import SimulatedGateway
from tests.support.factory import (
    AUTHOR,
    READY,
    OvertakenDatabase,
    Plan,
    ScriptedServices,
    in_gateway,
    in_status,
    make_batch,
    make_busy_batch,
    make_campaign,
    make_sibling,
    move,
    not_sent_for,
    read_credit,
    read_notes,
    read_states,
    step_context,
)
from tracker.clock import Instant, SystemClock
from tracker.queries.next_step import NextStep
from tracker.record.catalog import Batch
from tracker.record.check_times import sum_check_times
from tracker.record.due import DueKind, mark_due
from tracker.record.engagement import EngagementEvent
from tracker.record.journal import QUEUED_STATE, State, enqueue_batch, open_entry
from tracker.record.receipts import Receipt
from tracker.status import Channel, Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.messages import transitions
from tracker.store.schema.work import steps
from workers.candidates import Candidate
from workers.checks.base import check as make_check
from workers.checks.base import checks_of, sort_checks
from workers.gateways.base import (
    Gateway,
    GatewayUnavailable,
    PollResult,
    Submission,
    SubmissionResult,
)
from workers.gateways.safety import GuardedGateway
from workers.gateways.throttle import Grant, Throttle, UnlimitedThrottle
from workers.services.base import (
    MAX_SERVICE_CALLS,
    ServiceName,
    Services,
    ServiceUnavailable,
    SqlServices,
)
from workers.steps import at_gateway, before_gateway
from workers.steps.verdicts import SLOW_CALL_SECONDS

OUT_OF_CREDIT = not_sent_for(Reason.OUT_OF_CREDIT)
UNSUBSCRIBED = not_sent_for(Reason.UNSUBSCRIBED)


def judge(database: Database, batch: Batch, step: Step) -> None:
    context = step_context(database, batch)
    before_gateway.judge_batch(context, step, checks_of(step), SqlServices("", database))


def dispatch(
    database: Database, batch: Batch, services: Services | None = None, *, is_last_try: bool = False
) -> None:
    context = step_context(database, batch, is_last_try=is_last_try)
    before_gateway.dispatch(context, services or SqlServices("", database))


def submit(
    database: Database, batch: Batch, gateway: Gateway, throttle: Throttle | None = None
) -> NextStep | None:
    return at_gateway.submit(
        step_context(database, batch), gateway, throttle or UnlimitedThrottle()
    )


def check(database: Database, *batches: Batch) -> None:
    """Run the check steps."""
    for batch in batches:
        judge(database, batch, Step.SUPPRESS)
        judge(database, batch, Step.VALIDATE)


def moved_by(database: Database, step: Step) -> list[int]:
    """Return how many messages each entry of a step moved."""
    with database.read() as connection:
        query = sa.select(steps.c.moved).where(steps.c.step == step).order_by(steps.c.id)
        return list(connection.scalars(query))


def moments(database: Database, batch: Batch, target: State) -> dict[int, Instant]:
    """Return when each message came into a state."""
    query = sa.select(transitions.c.number, transitions.c.at).filter_by(
        campaign_id=batch.campaign.id, status=target.status, attempt=target.attempt
    )
    with database.read() as connection:
        return dict(map(tuple, connection.execute(query)))


@dataclass
class ScriptedGateway:
    """A gateway that accepts and reports what a test scripts."""

    receipts_given: Sequence[Receipt] = ()
    accepts: Callable[[Submission], Mapping[Instant, Sequence[int]]] | None = None
    again: Instant | None = None
    submissions: list[Submission] = field(default_factory=list)
    asked: list[Mapping[int, Sequence[int]]] = field(default_factory=list)

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        self.submissions.append(submission)
        return SubmissionResult(
            self.accepts(submission) if self.accepts else {now: submission.numbers}
        )

    def receipts(
        self, _: Batch, awaited: Mapping[int, Sequence[int]], _now: Instant
    ) -> PollResult[Receipt]:
        self.asked.append({attempt: [*numbers] for attempt, numbers in awaited.items()})
        return PollResult(self.receipts_given, self.again)

    def engagement(self, *_: object) -> PollResult[EngagementEvent]:
        return PollResult(())


def test_judging_blocks_queued_messages_by_reason(database: Database) -> None:
    people: dict[int, dict[str, object]] = {
        1: {"unsubscribed_email": True},
        2: {"hard_bounces_email": 1, "email": None},
        3: {"email": None},
        4: {"unsubscribed_email": True},
        5: {"unsubscribed_email": True, "email": None},
    }
    batch = make_batch(database, Plan(size=6), people)
    move(database, batch, [4], READY)
    bounced = not_sent_for(Reason.BOUNCED_REPEATEDLY)
    suppressed = dict(
        enumerate([QUEUED_STATE, UNSUBSCRIBED, bounced, QUEUED_STATE, READY, UNSUBSCRIBED])
    )

    judge(database, batch, Step.SUPPRESS)
    assert read_states(database, batch) == suppressed
    judge(database, batch, Step.VALIDATE)
    assert read_states(database, batch) == suppressed | {3: not_sent_for(Reason.EMAIL_MISSING)}
    check(database, batch)
    assert read_states(database, batch) == suppressed | {3: not_sent_for(Reason.EMAIL_MISSING)}
    assert moved_by(database, Step.SUPPRESS) == [3, 0]
    assert moved_by(database, Step.VALIDATE) == [1, 0]


def test_judging_keeps_to_its_batch(database: Database) -> None:
    everybody = {number: {"unsubscribed_email": True} for number in range(6)}
    campaign = make_campaign(database, Plan(size=6), everybody)
    one = enqueue_batch(database, campaign, batch=0, first=0, size=3, author=AUTHOR)
    two = enqueue_batch(database, campaign, batch=1, first=3, size=3, author=AUTHOR)
    judge(database, one, Step.SUPPRESS)
    by_number = read_states(database, one) | read_states(database, two)
    assert by_number == dict(enumerate([UNSUBSCRIBED] * 3 + [QUEUED_STATE] * 3))


def test_a_failed_check_is_logged_once_a_batch(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    @make_check(Reason.NDNC, step=Step.SUPPRESS, order=1)
    def odd(candidate: Candidate, now: datetime) -> bool:
        """Fail on odd numbers."""
        if candidate.number % 2:
            raise ZeroDivisionError(candidate.number)
        return False

    batch = make_batch(database, Plan(size=4), {2: {"unsubscribed_email": True}})
    checks = sort_checks([*checks_of(Step.SUPPRESS), odd])
    services = SqlServices("", database)
    before_gateway.judge_batch(step_context(database, batch), Step.SUPPRESS, checks, services)
    failed = not_sent_for(Reason.RULE_FAILED)
    assert [*read_states(database, batch).values()] == [QUEUED_STATE, failed, UNSUBSCRIBED, failed]
    assert read_notes(database, batch) == {
        1: "check odd: ZeroDivisionError: 1",
        3: "check odd: ZeroDivisionError: 3",
    }
    [record] = caplog.records
    assert record.getMessage() == (
        'check failed: check=odd campaign=1 batch=0 messages=2 error="ZeroDivisionError: 1"'
    )
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_the_time_of_each_check_is_recorded_and_a_slow_one_is_logged(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    @make_check(Reason.NDNC, step=Step.SUPPRESS, order=1)
    def slow(candidate: Candidate, now: datetime) -> bool:
        """Take a while."""
        time.sleep(SLOW_CALL_SECONDS)
        return False

    batch = make_batch(database, Plan(size=2))
    services = SqlServices("", database)
    checks = [slow, *checks_of(Step.SUPPRESS)]
    before_gateway.judge_batch(step_context(database, batch), Step.SUPPRESS, checks, services)
    with database.read() as connection:
        times = sum_check_times(connection, [batch.campaign.id])
    assert set(times) == {check.name for check in checks}
    assert times["slow"].calls == 2
    assert times["slow"].seconds_per_call >= SLOW_CALL_SECONDS
    lines = [record.getMessage() for record in caplog.records]
    start = "check slow: check=slow campaign=1 batch=0 seconds_per_call="
    assert any(line.startswith(start) for line in lines), lines


def test_quick_checks_leave_no_record_of_their_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.record.check_times.MIN_RECORDED_SECONDS", 600)
    batch = make_batch(database, Plan(size=2))
    quick = [check for check in checks_of(Step.VALIDATE) if check.name == "email_missing"]
    services = SqlServices("", database)
    before_gateway.judge_batch(step_context(database, batch), Step.VALIDATE, quick, services)
    with database.read() as connection:
        assert sum_check_times(connection, [batch.campaign.id]) == {}


def test_a_check_is_named_where_the_reason_does_not_say_it(database: Database) -> None:
    @make_check(Reason.NDNC, step=Step.SUPPRESS, order=1)
    def night(candidate: Candidate, now: datetime) -> bool:
        """Block an odd number."""
        return candidate.number == 1

    @make_check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=2)
    def custom_rule(candidate: Candidate, now: datetime) -> bool:
        """Block a number, with a name that is also the slug of a reason."""
        return candidate.number == 2

    spammed = {"unsubscribed_email": True, "marked_spam_email": True, "marked_spam_sms": True}
    people = {3: {"unsubscribed_email": True, "marked_spam_sms": True}, 4: spammed}
    batch = make_batch(database, Plan(size=5), people)
    checks = sort_checks([*checks_of(Step.SUPPRESS), night, custom_rule])
    services = SqlServices("", database)
    before_gateway.judge_batch(step_context(database, batch), Step.SUPPRESS, checks, services)
    assert read_states(database, batch) == {
        0: QUEUED_STATE,
        1: not_sent_for(Reason.NDNC),
        2: not_sent_for(Reason.CUSTOM_RULE),
        3: UNSUBSCRIBED,
        4: UNSUBSCRIBED,
    }
    assert read_notes(database, batch) == {
        1: "check night",
        2: "check custom_rule",
        4: "the customer marked a message as spam",
    }


def test_judging_does_not_undo_what_happened_meanwhile(database: Database) -> None:
    batch = make_batch(database, Plan(size=2), {0: {"unsubscribed_email": True}})
    overtaken = OvertakenDatabase(database.engine, [lambda: move(database, batch, [0], READY)])
    judge(overtaken, batch, Step.SUPPRESS)
    assert read_states(database, batch) == {0: READY, 1: QUEUED_STATE}


@pytest.mark.parametrize(
    ("credit", "sent", "left"),
    [
        pytest.param(None, 8, None, id="unlimited"),
        pytest.param(20, 8, 12, id="enough"),
        pytest.param(8, 8, 0, id="just enough"),
        pytest.param(5, 5, 0, id="short"),
        pytest.param(0, 0, 0, id="none"),
    ],
)
def test_dispatch_stops_at_the_end_of_credit(
    database: Database, credit: int | None, sent: int, left: int | None
) -> None:
    people = {number: {"unsubscribed_email": True} for number in (0, 5)}
    batch = make_batch(database, Plan(size=10, credit=credit), people)
    check(database, batch)
    for _ in range(2):
        dispatch(database, batch)
        counts = Counter(read_states(database, batch).values())
        assert counts == Counter({READY: sent, OUT_OF_CREDIT: 8 - sent, UNSUBSCRIBED: 2})
        assert read_credit(database, batch.campaign) == left


TIMEOUT, NO_HANDLER = not_sent_for(Reason.TIMEOUT), not_sent_for(Reason.HANDLER_NOT_FOUND)
LIMITED = not_sent_for(Reason.MESSAGE_LIMIT)
UNAVAILABLE = ServiceUnavailable("the handler is unavailable")


@pytest.mark.parametrize(
    ("kind", "says", "asked", "expected"),
    [
        pytest.param("promotion", [], 1, [READY, READY, READY], id="all are ready"),
        pytest.param("promotion", [[1, 2], [2]], 3, [READY, READY, READY], id="ready in the end"),
        pytest.param(
            "promotion",
            [[1]] * MAX_SERVICE_CALLS,
            MAX_SERVICE_CALLS,
            [READY, TIMEOUT, READY],
            id="timeout",
        ),
        pytest.param("fax", [], 0, [NO_HANDLER] * 3, id="no handler"),
    ],
)
def test_dispatch_takes_only_prepared_messages(
    database: Database,
    no_retry_delay: None,
    kind: str,
    says: Sequence[Sequence[int]],
    asked: int,
    expected: list[State],
) -> None:
    batch = make_batch(database, Plan(size=3, kind=kind, credit=3))
    check(database, batch)
    services = ScriptedServices({ServiceName.HANDLER: says})
    dispatch(database, batch, services)
    assert [*read_states(database, batch).values()] == expected
    assert len(services.calls) == asked
    assert read_credit(database, batch.campaign) == 3 - expected.count(READY)


def test_dispatch_waits_for_an_unavailable_handler_until_the_last_try(database: Database) -> None:
    batch = make_batch(database, Plan(size=2))
    check(database, batch)
    services = ScriptedServices({ServiceName.HANDLER: [UNAVAILABLE]})
    with pytest.raises(ServiceUnavailable):
        dispatch(database, batch, services)
    assert {*read_states(database, batch).values()} == {QUEUED_STATE}
    dispatch(database, batch, services, is_last_try=True)
    assert {*read_states(database, batch).values()} == {TIMEOUT}


@pytest.mark.parametrize(
    ("limit", "channel", "expected"),
    [
        pytest.param(None, Channel.EMAIL, [READY, READY, READY], id="unlimited"),
        pytest.param(2, Channel.EMAIL, [READY, READY, READY], id="one more"),
        pytest.param(1, Channel.EMAIL, [LIMITED, READY, LIMITED], id="had it"),
        pytest.param(1, Channel.SMS, [LIMITED, READY, LIMITED], id="on another channel, too"),
    ],
)
def test_dispatch_counts_messages_that_were_dispatched_since_the_check(
    database: Database, limit: int | None, channel: Channel, expected: list[State]
) -> None:
    first = make_batch(database, Plan(size=3, message_limit=limit), {1: {"email": None}})
    sibling = make_sibling(database, first.campaign, "second", channel)
    second = enqueue_batch(database, sibling, batch=0, first=0, size=3, author=AUTHOR)
    if channel is Channel.EMAIL:
        expected = [*expected[:1], not_sent_for(Reason.EMAIL_MISSING), *expected[2:]]
    check(database, first, second)
    dispatch(database, first)
    for _ in range(2):
        dispatch(database, second)
        assert [*read_states(database, second).values()] == expected


def test_dispatch_sends_no_unchecked_message(database: Database) -> None:
    """Steps may come in any order, also before the checks."""
    batch = make_batch(database, Plan(size=2), {0: {"unsubscribed_email": True}})
    for missing in (Step.SUPPRESS, Step.VALIDATE):
        dispatch(database, batch)
        assert READY not in read_states(database, batch).values()
        judge(database, batch, missing)
    dispatch(database, batch)
    assert read_states(database, batch) == {0: UNSUBSCRIBED, 1: READY}


@pytest.mark.parametrize(
    ("channel", "attempts", "expected"),
    [
        pytest.param(Channel.EMAIL, 3, {1: [2, 3, 4], 2: [12, 13]}, id="email, attempts left"),
        pytest.param(Channel.SMS, 2, {1: [2, 3, 4], 2: [12, 13]}, id="sms, one attempt left"),
        pytest.param(Channel.EMAIL, 1, {1: [2, 3, 4]}, id="no attempt left"),
    ],
)
def test_submit_takes_what_waits_for_the_gateway(
    database: Database, channel: Channel, attempts: int, expected: dict[int, list[int]]
) -> None:
    batch = make_busy_batch(database, Plan(size=22, channel=channel, attempts=attempts))
    before, gateway = read_states(database, batch), ScriptedGateway()
    for _ in range(2):  # the second time there is nothing to submit
        assert submit(database, batch, gateway) is None
        assert {
            submission.attempt: [*submission.numbers] for submission in gateway.submissions
        } == expected
        assert len(gateway.submissions) == len(expected)
    for attempt, taken in expected.items():
        before |= dict.fromkeys(taken, in_gateway(attempt))
    assert read_states(database, batch) == before
    for submission in gateway.submissions:
        assert submission.campaign == batch.campaign
        addresses = [f"customer{number}@example.com" for number in submission.numbers]
        numbers = ["+447700900000"] * len(submission.numbers)
        assert [*submission.recipients] == (addresses if channel is Channel.EMAIL else numbers)


def test_submit_moves_only_what_the_gateway_accepted(database: Database) -> None:
    batch = make_batch(database, Plan(size=4))
    move(database, batch, [0, 1, 2, 3], READY)
    now = batch.campaign.clock.now()
    gateway = ScriptedGateway(accepts=lambda _: {now + 1_000: [2], now + 2_000: [0]})
    submit(database, batch, gateway)
    assert read_states(database, batch) == {0: in_gateway(), 1: READY, 2: in_gateway(), 3: READY}
    assert moments(database, batch, in_gateway()) == {2: now + 1_000, 0: now + 2_000}


def test_submit_records_no_step_if_the_gateway_accepts_nothing(database: Database) -> None:
    batch = make_batch(database, Plan(size=2))
    move(database, batch, [0, 1], READY)
    submit(database, batch, ScriptedGateway(accepts=lambda _: {}))
    assert moved_by(database, Step.SUBMIT) == []


def test_submit_moves_nothing_while_the_gateway_is_unavailable(database: Database) -> None:
    def refuse(_: Submission) -> Mapping[Instant, Sequence[int]]:
        raise GatewayUnavailable

    batch = make_busy_batch(database)
    before, gateway = read_states(database, batch), ScriptedGateway(accepts=refuse)
    with pytest.raises(GatewayUnavailable):
        submit(database, batch, gateway)
    assert read_states(database, batch) == before


@dataclass
class Granting:
    """A throttle that always grants the same."""

    messages: int
    delay: timedelta
    keeps_to_instants: bool = False

    @property
    def max_grant(self) -> int:
        return self.messages

    def acquire(self, _batch: Batch, _wanted: int, _ready_at: Instant | None = None) -> Grant:
        return Grant(self.messages, self.delay)


@dataclass
class GrantingInstants(Granting):
    """A throttle that grants intervals of a second, in the last minute."""

    keeps_to_instants: bool = True
    requests: list[tuple[int, Instant | None]] = field(default_factory=list)

    def acquire(self, _batch: Batch, wanted: int, ready_at: Instant | None = None) -> Grant:
        self.requests.append((wanted, ready_at))
        starts_at = float(SystemClock().now() - 60_000_000)
        return Grant(self.messages, self.delay, starts_at, interval=1e6)


def test_each_message_of_a_grant_has_an_instant_of_its_own_whatever_its_attempt(
    database: Database,
) -> None:
    batch = make_batch(database, Plan(size=6, attempts=3))
    bounced = READY, in_gateway(), in_status(Status.SOFT_BOUNCED)
    move(database, batch, [0, 1, 2], *bounced)
    move(database, batch, [3, 4, 5], *bounced, in_gateway(2), in_status(Status.SOFT_BOUNCED, 2))
    gateway = ScriptedGateway()
    submit(database, batch, gateway, GrantingInstants(5, timedelta()))
    parts = [submission.accept_at for submission in gateway.submissions]
    instants = [part.tolist() for part in parts if part is not None]
    assert [len(part) for part in instants] == [3, 2]
    gaps = {later - earlier for earlier, later in pairwise(chain(*instants))}
    assert gaps == {1_000_000}


def test_a_late_bounce_does_not_keep_back_older_ones(database: Database) -> None:
    batch = make_batch(database, Plan(size=5, attempts=3))
    bounced = READY, in_gateway(), in_status(Status.SOFT_BOUNCED)
    move(database, batch, [3, 4], *bounced)
    move(database, batch, [0, 1, 2], *bounced)
    gateway, throttle = ScriptedGateway(), GrantingInstants(2, timedelta())
    submit(database, batch, gateway, throttle)
    assert [[*submission.numbers] for submission in gateway.submissions] == [[3, 4]]
    bounced_at = moments(database, batch, in_status(Status.SOFT_BOUNCED))
    assert throttle.requests == [(5, bounced_at[4] + batch.campaign.retry_after)]


@dataclass
class Undated:
    """A gateway that says which messages it has accepted, but not when, or only when it began."""

    is_stamped_with_the_begin: bool
    finished_at: Instant = 0

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        clock = submission.campaign.clock
        while clock.now() - now < 1_000:
            pass
        self.finished_at = clock.now()
        numbers = submission.numbers
        return SubmissionResult({now: numbers} if self.is_stamped_with_the_begin else numbers)

    def receipts(self, *_: object) -> PollResult[Receipt]:
        return PollResult(())

    def engagement(self, *_: object) -> PollResult[EngagementEvent]:
        return PollResult(())


@pytest.mark.parametrize("is_stamped_with_the_begin", [False, True])
def test_messages_without_an_instant_of_their_own_were_accepted_when_the_call_returned(
    database: Database, is_stamped_with_the_begin: bool
) -> None:
    people: dict[int, dict[str, object]] = {
        number: {"email": f"ann{number}@shop.internal"} for number in range(5)
    }
    batch = make_batch(database, Plan(size=5), people)
    move(database, batch, range(5), READY)
    undated = Undated(is_stamped_with_the_begin)
    submit(database, batch, GuardedGateway(undated) if is_stamped_with_the_begin else undated)
    accepted_at = moments(database, batch, in_gateway())
    [instant] = {*accepted_at.values()}
    assert instant >= undated.finished_at
    assert len(accepted_at) == 5


class Choosy:
    """A gateway that accepts every other message, and asks for a delay before the rest."""

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        return SubmissionResult({now: submission.numbers[::2]}, delay=timedelta(seconds=40))

    def receipts(self, *_: object) -> PollResult[Receipt]:
        return PollResult(())

    def engagement(self, *_: object) -> PollResult[EngagementEvent]:
        return PollResult(())


@pytest.mark.parametrize(
    ("granted", "least", "most"),
    [
        pytest.param(4, 0.1, 0.1, id="other batches wait: its turn comes anyway"),
        pytest.param(6, 30, 50, id="all were offered: the refused ones wait"),
        pytest.param(0, 0.1, 0.1, id="no turn"),
    ],
)
def test_refused_messages_do_not_delay_other_batches(
    database: Database, granted: int, least: float, most: float
) -> None:
    batch = make_batch(database, Plan(size=6))
    move(database, batch, range(6), READY)
    throttle = Granting(granted, timedelta(milliseconds=100))
    following = submit(database, batch, Choosy(), throttle)
    assert following is not None
    assert following.step is Step.SUBMIT
    assert least <= following.delay.total_seconds() <= most
    there = [number for number, state in read_states(database, batch).items() if state != READY]
    assert there == [*range(0, granted, 2)]


@pytest.mark.parametrize(
    ("expected", "step"),
    [(DueKind.RECEIPTS, Step.DELIVER), (DueKind.ENGAGEMENT, Step.ENGAGE)],
)
def test_a_throttled_batch_is_polled_meanwhile(
    database: Database, expected: DueKind, step: Step
) -> None:
    batch = make_batch(database, Plan(size=2))
    move(database, batch, range(2), READY)
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=now) as written:
        mark_due(written, expected, now - 2_000_000)
    throttle = Granting(0, timedelta(seconds=1))
    assert submit(database, batch, ScriptedGateway(), throttle) == NextStep(step)


def test_messages_accepted_before_an_outage_are_recorded(database: Database) -> None:
    """The gateway accepts first attempts, and becomes unavailable."""

    def first_only(offer: Submission) -> Mapping[Instant, Sequence[int]]:
        if offer.attempt > 1:
            raise GatewayUnavailable
        return {1_000: offer.numbers}

    batch = make_batch(database, Plan(size=3))
    move(database, batch, [0, 1], READY)
    move(database, batch, [2], READY, in_gateway(), in_status(Status.SOFT_BOUNCED))
    following = submit(database, batch, ScriptedGateway(accepts=first_only))
    assert read_states(database, batch) == {
        0: in_gateway(),
        1: in_gateway(),
        2: in_status(Status.SOFT_BOUNCED),
    }
    assert following == NextStep(Step.SUBMIT)


def test_a_message_is_accepted_once_however_often_it_is_submitted(database: Database) -> None:
    """A worker died after the gateway had accepted 1 and 2, but before that was recorded."""
    batch = make_batch(database, Plan(size=4))
    move(database, batch, [0, 1, 2, 3], READY)
    gateway = SimulatedGateway(batch.campaign.gateway_settings, database)
    submission = Submission(
        campaign=batch.campaign, attempt=1, numbers=[1, 2], recipients=["a@b.example"] * 2
    )
    first = batch.campaign.clock.now()
    gateway.submit(submission, first)

    submit(database, batch, gateway)
    assert set(read_states(database, batch).values()) == {in_gateway()}
    accepted = moments(database, batch, in_gateway())
    assert (accepted[1], accepted[2]) == (first, first)
    assert min(accepted[0], accepted[3]) > first
    with database.read() as connection:
        rows = connection.execute(sa.select(acceptances.c.number, acceptances.c.repeats)).all()
        assert sorted(map(tuple, rows)) == [(0, 0), (1, 1), (2, 1), (3, 0)]
        assert ledger.count_ledger_events(connection, [batch.campaign.id]).repeats == 2


ON_SECOND = in_status(Status.SOFT_BOUNCED), in_gateway(2)


@pytest.mark.parametrize(
    ("receipts", "expected"),
    [
        pytest.param([(0, 2, Status.DELIVERED)], in_status(Status.DELIVERED, 2), id="delivered"),
        pytest.param([(0, 2, Status.HARD_BOUNCED)], in_status(Status.HARD_BOUNCED, 2), id="hard"),
        pytest.param([(0, 2, Status.SOFT_BOUNCED)], in_status(Status.SOFT_BOUNCED, 2), id="soft"),
        pytest.param([(0, 2, Status.NOT_DELIVERED)], in_status(Status.NOT_DELIVERED, 2), id="lost"),
        pytest.param([], in_gateway(2), id="nothing yet"),
        pytest.param([(0, 1, Status.DELIVERED)], in_gateway(2), id="stale"),
        pytest.param([(0, 3, Status.DELIVERED)], in_gateway(2), id="attempt to come"),
        pytest.param([(0, 2, Status.QUEUED)], in_gateway(2), id="queued is no outcome"),
        pytest.param([(0, 2, Status.ABOUT_TO_BE_SENT)], in_gateway(2), id="ready is none"),
        pytest.param([(0, 2, Status.NOT_SENT)], in_gateway(2), id="not sent is none"),
        pytest.param([(0, 2, Status.IN_GATEWAY)], in_gateway(2), id="in gateway is none"),
        pytest.param(
            [(7, 1, Status.DELIVERED), (-1, 2, Status.DELIVERED)], in_gateway(2), id="unknown"
        ),
        pytest.param(
            [(0, 1, Status.HARD_BOUNCED), (0, 2, Status.DELIVERED), (0, 2, Status.DELIVERED)],
            in_status(Status.DELIVERED, 2),
            id="stale and duplicate",
        ),
        pytest.param(
            [(0, 2, Status.NOT_DELIVERED), (0, 2, Status.DELIVERED)],
            in_status(Status.NOT_DELIVERED, 2),
            id="contradictory",
        ),
    ],
)
def test_only_receipts_that_count_are_applied(
    database: Database, receipts: list[tuple[int, int, Status]], expected: State
) -> None:
    batch = make_batch(database, Plan(size=3))
    move(database, batch, [0], READY, in_gateway(), *ON_SECOND)
    move(database, batch, [1], READY)
    begun = batch.campaign.clock.now()
    answers = [Receipt(*receipt, at) for at, receipt in enumerate(receipts, begun)]
    answers += [Receipt(1, 0, Status.DELIVERED, 7), Receipt(2, 1, Status.DELIVERED, 7)]
    gateway = ScriptedGateway(answers)

    at_gateway.deliver(step_context(database, batch), gateway)
    assert read_states(database, batch) == {0: expected, 1: READY, 2: QUEUED_STATE}
    assert gateway.asked == [{2: [0]}]
    if expected != in_gateway(2):
        counted = next(row for row in answers if row[:3] == (0, 2, expected.status))
        assert moments(database, batch, expected) == {0: counted.at}
    assert moved_by(database, Step.DELIVER) == [int(expected != in_gateway(2))]


def test_receipts_are_polled_only_if_some_are_expected(database: Database) -> None:
    busy, gateway = make_busy_batch(database), ScriptedGateway()
    at_gateway.deliver(step_context(database, busy), gateway)
    assert gateway.asked == [{1: [5], 2: [14]}]
    queued = make_batch(database, Plan(size=1))
    at_gateway.deliver(step_context(database, queued), gateway)
    assert len(gateway.asked) == 1
