"""The next step of a batch: one decision, held as a function, as SQL and in the stalled search."""

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import combinations, product

import pytest
import sqlalchemy as sa

from tests.support.factory import (
    AUTHOR,
    READY,
    SPRING,
    Plan,
    backdate_batch,
    in_gateway,
    in_status,
    make_batch,
    make_campaign,
    move,
    not_sent_for,
)
from tracker.clock import Instant, from_seconds, to_microseconds
from tracker.queries.next_step import (
    CHECK_CHAIN,
    CHECK_STEPS,
    MAX_COUNTDOWN,
    MIN_POLL_INTERVAL,
    BatchState,
    DueStep,
    NextStep,
    decide_step,
    next_step,
    next_step_while_throttled,
    read_batch_state,
)
from tracker.queries.pending_batches import find_settled_batches, has_next_step
from tracker.queries.retries import compute_retry_pause
from tracker.queries.stalled import find_idle_batches
from tracker.record.catalog import Batch, Campaign, load_campaign
from tracker.record.journal import open_entry
from tracker.status import SENT_STATUSES, Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches, campaigns, gateways, runs
from tracker.store.schema.messages import NO_REASON, messages, tallies, transitions
from tracker.store.schema.work import open_submissions, parts, steps

ATTEMPTS = 3
HOUR = to_microseconds(timedelta(hours=1))
IDLE_FOR = timedelta(minutes=1)
TOUCHED = -2 * HOUR
"""When a step last changed each batch, relative to now, as are all times of a case."""

TALLY_STATES = [
    (status, attempt)
    for status in Status
    for attempt in (range(1, ATTEMPTS + 1) if status in SENT_STATUSES else [0])
]
"""Every (status, attempt) that the database accepts."""

OCCUPIED = [(), *combinations(TALLY_STATES, 1), *combinations(TALLY_STATES, 2)]
"""Every tally state, alone and in pairs, and a batch whose tallies are all zero."""

DUE = (None, TOUCHED + HOUR, HOUR)
"""Due times: none, in the past, in the future."""


@dataclass(frozen=True)
class Checks:
    """The recorded check steps of a batch, and those that have open segments."""

    recorded: tuple[Step, ...] = ()
    segmented: tuple[Step, ...] = ()


CHECKS = [
    Checks(recorded, segmented)
    for recorded in ((), CHECK_STEPS[:1], CHECK_STEPS)
    for segmented in ((), *((step,) for step in CHECK_CHAIN))
]


CHECKED = Checks(CHECK_STEPS)
"""Batches with these may wait for deferred messages."""


@dataclass(frozen=True)
class Case:
    """A batch's state by which its next step is decided."""

    occupied: tuple[tuple[Status, int], ...]
    receipts_due: int | None
    engagement_due: int | None
    checks: "Checks"
    retry_after: int
    deferral_due: int | None = None
    is_paused: bool = False
    is_cancelled: bool = False
    has_open_submission: bool = False

    def state(self, now: Instant) -> BatchState:
        statuses = {status for status, _ in self.occupied}
        bounced = [
            attempt
            for status, attempt in self.occupied
            if status is Status.SOFT_BOUNCED and attempt < ATTEMPTS
        ]
        has_retries = bool(bounced)
        campaign = replace(SPRING, retry_after=self.retry_after)
        pause = compute_retry_pause(campaign, min(bounced, default=1))
        retry_due_at = now + TOUCHED + pause
        is_waiting = self.deferral_due is not None
        needs_retry_time = (
            has_retries and self.retry_after and (is_waiting or Status.QUEUED not in statuses)
        )
        return BatchState(
            occupied=frozenset(self.occupied),
            attempts=ATTEMPTS,
            completed_checks=frozenset()
            if self.is_cancelled
            else {*self.checks.recorded} - {*self.checks.segmented},
            retry_due_at=retry_due_at if needs_retry_time else None,
            receipts_due_at=None if self.receipts_due is None else now + self.receipts_due,
            engagement_due_at=None if self.engagement_due is None else now + self.engagement_due,
            deferral_due_at=now + self.deferral_due if self.deferral_due is not None else None,
            is_paused=self.is_paused,
            is_cancelled=self.is_cancelled,
            has_open_submission=self.has_open_submission,
        )


def cases(retry_after: int) -> list[Case]:
    """Every combination that matters; a retry delay does so only where something soft-bounced."""
    return [
        Case(occupied, receipts_due, engagement_due, checks, retry_after, deferral_due)
        for occupied in OCCUPIED
        if not retry_after or any(status is Status.SOFT_BOUNCED for status, _ in occupied)
        for receipts_due, engagement_due in product(DUE, repeat=2)
        for checks in (CHECKS if (Status.QUEUED, 0) in occupied else [Checks()])
        for deferral_due in (DUE if checks == CHECKED else DUE[:1])
    ]


@pytest.mark.parametrize(
    ("retry_after", "action"),
    [
        pytest.param(0, None, id="at once"),
        pytest.param(HOUR, None, id="due"),
        pytest.param(3 * HOUR, None, id="not due"),
        pytest.param(0, "paused_at", id="paused"),
        pytest.param(0, "cancelled_at", id="cancelled"),
    ],
)
def test_function_sql_and_stalled_search_agree_on_every_state(
    database: Database, retry_after: int, action: str | None
) -> None:
    all_cases = [
        replace(
            case,
            is_paused=action == "paused_at",
            is_cancelled=action == "cancelled_at",
            has_open_submission=action == "cancelled_at" and number % 3 == 0,
        )
        for number, case in enumerate(cases(retry_after))
    ]
    campaign = make_campaign(database, Plan(attempts=ATTEMPTS, size=1))
    with database.write() as connection:
        connection.execute(sa.update(gateways).values(retry_after=retry_after))
        if action is not None:
            connection.execute(sa.update(campaigns).values({action: 1}))
        campaign = load_campaign(connection, campaign.id)
        now = campaign.clock.now()
        insert_cases(connection, campaign, all_cases, now)
    keys = [(campaign.id, batch) for batch in range(len(all_cases))]
    cutoff = now - to_microseconds(IDLE_FOR)
    with database.read() as connection:
        for batch, case in enumerate(all_cases):
            if len(case.occupied) == 1 or case.receipts_due == case.engagement_due:
                of = Batch(campaign=campaign, batch=batch, first=2 * batch, size=2)
                assert read_batch_state(connection, of) == case.state(now)
        settled = find_settled_batches(connection, keys)
        stalled = {
            batch.batch: (batch.step, batch.idle_since)
            for batch in find_idle_batches(connection, [campaign], IDLE_FOR)
        }
        selected = {*connection.scalars(candidates_query(cutoff, action))}
    decisions = [decide_step(case.state(now)) for case in all_cases]
    assert settled == {
        key for key, decision in zip(keys, decisions, strict=True) if decision is None
    }
    since = {
        batch: (decision.step, max(now + TOUCHED, decision.due_at or 0))
        for batch, decision in enumerate(decisions)
        if decision is not None
    }
    assert stalled == {batch: entry for batch, entry in since.items() if entry[1] < cutoff}
    has_retries = {batch for batch, case in enumerate(all_cases) if case.state(now).has_retries}
    assert selected >= stalled.keys(), "a limited search must not miss them"
    assert selected - has_retries <= stalled.keys(), "and none that waits may fill its limit"


def candidates_query(cutoff: Instant, action: str | None) -> sa.Select[tuple[int]]:
    is_paused, is_cancelled = (
        sa.true() if action == column else sa.false() for column in ("paused_at", "cancelled_at")
    )
    condition = has_next_step(
        ATTEMPTS, due_before=cutoff, is_paused=is_paused, is_cancelled=is_cancelled
    )
    return sa.select(batches.c.batch).where(condition)


def insert_cases(
    connection: sa.Connection, campaign: Campaign, all_cases: list[Case], now: Instant
) -> None:
    """Record each case as a batch of two messages; the journal would take minutes for them."""
    rows: dict[sa.Table, list[dict[str, object]]] = {
        table: []
        for table in (batches, messages, transitions, tallies, steps, parts, open_submissions)
    }
    for batch, case in enumerate(all_cases):
        key = {"campaign_id": campaign.id, "batch": batch}
        state = case.state(now)
        due_times = {
            "receipts_due_at": state.receipts_due_at,
            "engagement_due_at": state.engagement_due_at,
            "deferral_due_at": state.deferral_due_at,
            "deferred": int(state.deferral_due_at is not None),
        }
        rows[batches].append(
            {**key, **due_times, "first": 2 * batch, "size": 2, "touched_at": now + TOUCHED}
        )
        for status, attempt in {*case.occupied, TALLY_STATES[batch % len(TALLY_STATES)]}:
            of = {
                "status": status,
                "attempt": attempt,
                "reason": Reason.NDNC if status is Status.NOT_SENT else NO_REASON,
                "messages": int((status, attempt) in case.occupied),
            }
            rows[tallies].append({**key, **of})
        for number, (status, attempt) in enumerate(case.occupied, 2 * batch):
            if status is Status.SOFT_BOUNCED:
                message = {
                    "campaign_id": campaign.id,
                    "number": number,
                    "status": status,
                    "attempt": attempt,
                }
                rows[messages].append({**message})
                rows[transitions].append(
                    {**message, "previous": Status.IN_GATEWAY, "at": now + TOUCHED, "step_id": 1}
                )
        written = {"worker": "test", "started_at": now, "finished_at": now, "moved": 0}
        rows[steps] += [{**key, **written, "step": step} for step in case.checks.recorded]
        if case.has_open_submission:
            noted = {"attempt": 1, "first": 2 * batch, "last": 2 * batch + 1}
            rows[open_submissions].append({**key, **noted})
        segment = {"first": 2 * batch, "size": 2, "tries": 1}
        rows[parts] += [{**key, **segment, "step": step} for step in case.checks.segmented]
    for table, values in rows.items():
        if values:
            connection.execute(sa.insert(table), values)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param({}, None, id="no messages"),
        pytest.param({"occupied": [(Status.QUEUED, 0)]}, DueStep(Step.SUPPRESS), id="queued"),
        pytest.param(
            {"occupied": [(Status.QUEUED, 0)], "completed_checks": [Step.SUPPRESS]},
            DueStep(Step.VALIDATE),
            id="queued, suppress done",
        ),
        pytest.param(
            {"occupied": [(Status.QUEUED, 0)], "completed_checks": [Step.VALIDATE]},
            DueStep(Step.SUPPRESS),
            id="queued, suppress not done",
        ),
        pytest.param(
            {"occupied": [(Status.QUEUED, 0)], "completed_checks": CHECK_STEPS},
            DueStep(Step.DISPATCH),
            id="queued, checks done",
        ),
        pytest.param(
            {"occupied": [(Status.QUEUED, 0)], "deferral_due_at": 5},
            DueStep(Step.SUPPRESS),
            id="deferred, checks not done",
        ),
        pytest.param(
            {
                "occupied": [(Status.QUEUED, 0)],
                "completed_checks": CHECK_STEPS,
                "deferral_due_at": 5,
                "receipts_due_at": 6,
            },
            DueStep(Step.DISPATCH, 5),
            id="deferred",
        ),
        pytest.param(
            {
                "occupied": [(Status.QUEUED, 0), (Status.ABOUT_TO_BE_SENT, 0)],
                "completed_checks": CHECK_STEPS,
                "deferral_due_at": 5,
            },
            DueStep(Step.SUBMIT),
            id="deferred, others about to be sent",
        ),
        pytest.param(
            {"occupied": [(Status.QUEUED, 0), (Status.ABOUT_TO_BE_SENT, 0)], "receipts_due_at": 1},
            DueStep(Step.SUPPRESS),
            id="queued and about to be sent",
        ),
        pytest.param(
            {"occupied": [(Status.ABOUT_TO_BE_SENT, 0)], "receipts_due_at": 1},
            DueStep(Step.SUBMIT),
            id="about to be sent",
        ),
        pytest.param({"occupied": [(Status.NOT_SENT, 0)]}, None, id="not sent"),
        pytest.param({"occupied": [(Status.IN_GATEWAY, 1)]}, None, id="nothing expected"),
        pytest.param(
            {"occupied": [(Status.IN_GATEWAY, 1)], "receipts_due_at": 5},
            DueStep(Step.DELIVER, 5),
            id="receipts expected",
        ),
        pytest.param(
            {"occupied": [(Status.SOFT_BOUNCED, 2)]}, DueStep(Step.SUBMIT), id="retry at once"
        ),
        pytest.param(
            {"occupied": [(Status.SOFT_BOUNCED, 2)], "retry_due_at": 7, "receipts_due_at": 9},
            DueStep(Step.SUBMIT, 7),
            id="retry first",
        ),
        pytest.param(
            {"occupied": [(Status.SOFT_BOUNCED, 2)], "retry_due_at": 7, "receipts_due_at": 5},
            DueStep(Step.DELIVER, 5),
            id="receipts first",
        ),
        pytest.param({"occupied": [(Status.SOFT_BOUNCED, 3)]}, None, id="no attempts left"),
        pytest.param(
            {"occupied": [(Status.DELIVERED, 1)], "engagement_due_at": 5},
            DueStep(Step.ENGAGE, 5),
            id="engagement expected",
        ),
        pytest.param({"occupied": [(Status.QUEUED, 0)], "is_paused": True}, None, id="paused"),
        pytest.param(
            {"occupied": [(Status.ABOUT_TO_BE_SENT, 0), (Status.IN_GATEWAY, 1)]}
            | {"receipts_due_at": 9, "engagement_due_at": 5, "is_paused": True},
            DueStep(Step.ENGAGE, 5),
            id="paused, with messages in the gateway",
        ),
    ],
)
def test_decided_step(state: dict[str, object], expected: DueStep | None) -> None:
    assert decide_step(BatchState(**({"occupied": (), "attempts": ATTEMPTS} | state))) == expected  # type: ignore[arg-type]


def test_settled_batches_of_several_campaigns(database: Database) -> None:
    queued, settled, unasked = (make_batch(database) for _ in range(3))
    for batch in (settled, unasked):
        move(database, batch, list(range(10)), not_sent_for(Reason.NDNC))
    keys = [(batch.campaign.id, batch.batch) for batch in (queued, settled)]
    with database.read() as connection:
        assert find_settled_batches(connection, keys) == {keys[1]}
        assert find_settled_batches(connection, []) == set()


def expecting_receipts(database: Database, *, in_seconds: float) -> Batch:
    batch = make_batch(database)
    move(database, batch, list(range(10)), READY, in_gateway())
    due = batch.campaign.clock.now() + from_seconds(in_seconds)
    backdate_batch(database, batch, receipts_due_at=due)
    return batch


def test_delay_until_due_is_real_time_and_limited(database: Database) -> None:
    batch = expecting_receipts(database, in_seconds=30)
    following = next_step(database, batch)
    assert following is not None
    assert following.step is Step.DELIVER
    assert timedelta(seconds=28) < following.delay <= timedelta(seconds=30)
    with database.write() as connection:
        connection.execute(sa.update(runs).values(speed=10.0))
        fast = load_campaign(connection, batch.campaign.id)
    backdate_batch(database, batch, receipts_due_at=fast.clock.now() + from_seconds(30))
    following = next_step(database, Batch(campaign=fast, batch=0, first=0, size=10))
    assert following is not None
    assert timedelta(seconds=2) < following.delay <= timedelta(seconds=3)
    backdate_batch(database, batch, receipts_due_at=batch.campaign.clock.now() + 24 * HOUR)
    assert next_step(database, batch) == NextStep(Step.DELIVER, MAX_COUNTDOWN)


def test_a_gateway_without_news_is_not_polled_in_a_tight_loop(database: Database) -> None:
    batch = expecting_receipts(database, in_seconds=-60)
    assert next_step(database, batch) == NextStep(Step.DELIVER)
    assert next_step(database, batch, completed=Step.SUBMIT) == NextStep(Step.DELIVER)
    for completed in (Step.DELIVER, Step.ENGAGE):
        repeated = next_step(database, batch, completed=completed)
        assert repeated == NextStep(Step.DELIVER, MIN_POLL_INTERVAL)


def test_overdue_polls_go_before_a_throttled_submission(database: Database) -> None:
    batch = expecting_receipts(database, in_seconds=60)
    delay = timedelta(seconds=5)
    assert next_step_while_throttled(database, batch, submit_delay=delay) == NextStep(
        Step.SUBMIT, delay
    )
    backdate_batch(database, batch, engagement_due_at=batch.campaign.clock.now() - HOUR)
    assert next_step_while_throttled(database, batch, submit_delay=delay) == NextStep(Step.ENGAGE)
    backdate_batch(database, batch, receipts_due_at=batch.campaign.clock.now() - HOUR)
    assert next_step_while_throttled(database, batch, submit_delay=delay) == NextStep(Step.DELIVER)


def test_a_soft_bounce_is_retried_after_the_first_ones_delay(database: Database) -> None:
    batch = make_batch(database)
    with database.write() as connection:
        connection.execute(sa.update(gateways).values(retry_after=30_000_000))
        campaign = load_campaign(connection, batch.campaign.id)
    batch = Batch(campaign=campaign, batch=0, first=0, size=10)
    move(database, batch, [3], READY, in_gateway(), in_status(Status.SOFT_BOUNCED))
    move(database, batch, [n for n in range(10) if n != 3], not_sent_for(Reason.NDNC))
    following = next_step(database, batch)
    assert following is not None
    assert following.step is Step.SUBMIT
    assert timedelta(seconds=25) < following.delay <= timedelta(seconds=30)
    with database.write() as connection:
        connection.execute(sa.update(gateways).values(retry_after=1))
        campaign = load_campaign(connection, batch.campaign.id)
    batch = replace(batch, campaign=campaign)
    assert next_step(database, batch, completed=Step.SUBMIT) == NextStep(Step.SUBMIT), "no poll"


@pytest.mark.parametrize(
    ("deferred", "expected"),
    [(9, NextStep(Step.DISPATCH)), (10, NextStep(Step.DISPATCH, timedelta(seconds=30)))],
    ids=["some", "all"],
)
def test_a_batch_waits_only_if_all_queued_messages_are_deferred(
    database: Database, deferred: int, expected: NextStep
) -> None:
    batch = make_batch(database)
    for step in CHECK_STEPS:
        with open_entry(database, batch, step, AUTHOR, started_at=0):
            pass
    due = batch.campaign.clock.now() + from_seconds(30)
    backdate_batch(database, batch, deferred=deferred, deferral_due_at=due)
    following = next_step(database, batch)
    assert following is not None
    assert following.step is expected.step
    assert timedelta() <= expected.delay - following.delay < timedelta(seconds=5)


def test_no_task_waits_for_messages_that_are_deferred_for_long(database: Database) -> None:
    """The sweep wakes their batch when they are due, not before."""
    batch = make_batch(database)
    for step in CHECK_STEPS:
        with open_entry(database, batch, step, AUTHOR, started_at=0):
            pass
    now = batch.campaign.clock.now()
    for due, is_idle in ((now + HOUR, False), (now - HOUR, True)):
        backdate_batch(database, batch, deferred=10, deferral_due_at=due)
        with database.read() as connection:
            idle = find_idle_batches(connection, [batch.campaign], IDLE_FOR)
        assert [(found.step, found.is_waiting_over) for found in idle] == (
            [(Step.DISPATCH, True)] if is_idle else []
        )
        assert next_step(database, batch) == (NextStep(Step.DISPATCH) if is_idle else None)
