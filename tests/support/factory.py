"""Coherent rows for tests: campaigns with customers, and messages in given states."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from threading import Barrier, Thread
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.audit import invariants
from tracker.audit.invariants import InvariantQuery
from tracker.campaign_states import CampaignState
from tracker.clock import Instant, SystemClock, to_microseconds
from tracker.organizations import CouponSeries, Organization
from tracker.queries import stalled
from tracker.queries.report import Report
from tracker.queries.timeline import read_timeline
from tracker.record import catalog, registration
from tracker.record.catalog import Batch, Campaign
from tracker.record.journal import QUEUED_STATE, Author, Move, State, enqueue_batch, open_entry
from tracker.record.predicates import is_of_batch, is_of_message_in
from tracker.status import Channel, Reason, Status, Step
from tracker.store.database import Database, connect
from tracker.store.schema.catalog import batches, customers, organizations
from tracker.store.schema.messages import messages, tallies
from workers.services.base import Service, ServiceAnswers, ServiceName, ServiceUnavailable
from workers.steps.context import StepContext

T = TypeVar("T")

TIMEOUT_SECONDS = 150
"""Seconds after which work that should take a moment counts as hanging."""

AUTHOR = Author(worker="test", task_id="task-1")
READY = State(status=Status.ABOUT_TO_BE_SENT)

ACME = Organization(
    id=1, name="Acme", enabled=True, credit=None, hard_bounce_limit=1, soft_bounce_limit=3
)
SPRING = Campaign(
    id=1,
    run_id=1,
    name="spring",
    channel=Channel.EMAIL,
    requires=(),
    attempts=3,
    audience_id=1,
    organization=ACME,
    gateway_id=1,
    gateway_kind="simulated",
    gateway_settings="{}",
    seed=1,
    started_at=0,
    speed=1.0,
    sender="Acme",
    coupon_series=CouponSeries(name="spring", active=True),
)
"""A campaign that isn't recorded, for code that only reads its values."""


def make_report(counts: Mapping[State, int], **changes: Any) -> Report:
    """Return the report of a finished campaign that isn't recorded, with other attributes."""
    values: dict[str, Any] = {
        "campaign": SPRING,
        "audience": sum(counts.values()),
        "recorded": sum(counts.values()),
        "counts": Counter(counts),
        "state": CampaignState.FINISHED,
        "as_of": 0,
    }
    return Report(**values | changes)


def in_gateway(attempt: int = 1) -> State:
    """Return the state of a message that the gateway accepted on an attempt."""
    return State(status=Status.IN_GATEWAY, attempt=attempt)


def in_status(status: Status, attempt: int = 1) -> State:
    """Return the state of a message with an outcome of an attempt."""
    return State(status=status, attempt=attempt)


def not_sent_for(reason: Reason) -> State:
    """Return the state of a message that is Not Sent for a reason."""
    return State(status=Status.NOT_SENT, reason=reason)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The properties of a campaign for a test."""

    name: str = "spring"
    channel: Channel = Channel.EMAIL
    size: int = 10
    requires: Sequence[str] = ()
    attempts: int = 3
    credit: int | None = None
    enabled: bool = True
    message_limit: int | None = None
    kind: str = "promotion"
    gateway_kind: str = "simulated"
    gateway_settings: str = '{"seed": 1, "behaviour": {}}'
    tracks_engagement: bool = False
    message: str = "{}"
    keeps_suppressions: bool = False


def make_campaign(
    database: Database, plan: Plan | None = None, people: Mapping[int, Mapping[str, object]] = {}
) -> Campaign:
    """Record a campaign in a run of its own.

    `people` has, by number, the columns of the customers that differ from the valid default.
    """
    plan = plan or Plan()
    with database.write() as connection:
        run_id = registration.record_run(
            connection,
            scenario="test",
            seed=1,
            started_at=SystemClock().now(),
            speed=1.0,
            definition="",
        )
        organization_id = registration.record_organization(
            connection,
            run_id,
            name="Acme",
            enabled=plan.enabled,
            credit=plan.credit,
            hard_bounce_limit=1,
            soft_bounce_limit=3,
            message_limit=plan.message_limit,
        )
        gateway_id = registration.record_gateway(
            connection, run_id, kind=plan.gateway_kind, settings=plan.gateway_settings
        )
        audience_id = registration.record_audience(connection, organization_id, "test")
        sound = [_sound_customer(audience_id, number) for number in range(plan.size)]
        plain = [values for number, values in enumerate(sound) if number not in people]
        if plain:
            connection.execute(sa.insert(customers), plain)
        for number, different in people.items():
            connection.execute(sa.insert(customers).values({**sound[number], **different}))
        registration.record_audience_size(connection, audience_id, plan.size)
        registration.record_coupon_series(connection, organization_id, name="spring", active=True)
        campaign_id = registration.record_campaign(
            connection,
            run_id,
            organization_id=organization_id,
            audience_id=audience_id,
            gateway_id=gateway_id,
            name=plan.name,
            channel=plan.channel,
            requires=plan.requires,
            attempts=plan.attempts,
            kind=plan.kind,
            tracks_engagement=plan.tracks_engagement,
            message=plan.message,
            keeps_suppressions=plan.keeps_suppressions,
            coupon_series="spring",
        )
        return catalog.load_campaign(connection, campaign_id)


def make_sibling(
    database: Database, campaign: Campaign, name: str, channel: Channel = Channel.EMAIL
) -> Campaign:
    """Record another campaign of a campaign's organization to the same audience."""
    with database.write() as connection:
        campaign_id = registration.record_campaign(
            connection,
            campaign.run_id,
            organization_id=campaign.organization.id,
            audience_id=campaign.audience_id,
            gateway_id=campaign.gateway_id,
            name=name,
            channel=channel,
            requires=campaign.requires,
            attempts=campaign.attempts,
        )
        return catalog.load_campaign(connection, campaign_id)


def _sound_customer(audience_id: int, number: int) -> dict[str, object]:
    return {
        "audience_id": audience_id,
        "number": number,
        "customer_id": f"c{number}",
        "email": f"customer{number}@example.com",
        "mobile": "+447700900000",
        "mobile_e164": "+447700900000",
        "loyalty_member": True,
        "last_store": "Store 1",
        "profile": "standard",
    }


def make_batch(
    database: Database, plan: Plan | None = None, people: Mapping[int, Mapping[str, object]] = {}
) -> Batch:
    """Record a campaign with one batch of queued messages."""
    plan = plan or Plan()
    campaign = make_campaign(database, plan, people)
    return enqueue_batch(database, campaign, batch=0, first=0, size=plan.size, author=AUTHOR)


def move(
    database: Database,
    batch: Batch,
    numbers: Sequence[int],
    *states: State,
    step: Step = Step.DISPATCH,
) -> None:
    """Move queued messages through some states, with one journal entry for each."""
    source = QUEUED_STATE
    for target in states:
        now = batch.campaign.clock.now()
        with open_entry(database, batch, step, AUTHOR, started_at=now) as written:
            moved = written.move(Move(numbers=numbers, source=source, target=target, at=now))
        assert moved == numbers, "the factory moves only what is there"
        source = target


def judge(database: Database, batch: Batch, step: Step, blocked: Mapping[int, Reason] = {}) -> None:
    """Record a check step that has blocked some queued messages, which may be none."""
    now = batch.campaign.clock.now()
    with open_entry(database, batch, step, AUTHOR, started_at=now) as written:
        for number, reason in blocked.items():
            target = not_sent_for(reason)
            written.move(Move(numbers=[number], source=QUEUED_STATE, target=target, at=now))


def make_busy_batch(database: Database, plan: Plan | None = None) -> Batch:
    """Record a batch of 22 messages in every status, by every way that leads there.

    0-1 queued · 2-4 about to be sent · 5 in the gateway · 6-9 delivered · 10 hard bounced, 11 late
    · 12-13 soft bounced, waiting · 14 in the gateway again · 15 soft bounced thrice · 16 not
    delivered · 17 and 18 unsubscribed, 19 without an address, 20 disabled, 21 timed out
    """
    batch = make_batch(database, plan or Plan(size=22))
    soft, hard, delivered = Status.SOFT_BOUNCED, Status.HARD_BOUNCED, Status.DELIVERED
    unsubscribed, timeout = not_sent_for(Reason.UNSUBSCRIBED), not_sent_for(Reason.TIMEOUT)
    disabled, no_address = (
        not_sent_for(Reason.ORGANIZATION_DISABLED),
        not_sent_for(Reason.EMAIL_MISSING),
    )
    for step, moves in (
        (Step.SUPPRESS, [([17, 18], QUEUED_STATE, unsubscribed), ([20], QUEUED_STATE, disabled)]),
        (Step.VALIDATE, [([19], QUEUED_STATE, no_address)]),
        (Step.DISPATCH, [(range(2, 17), QUEUED_STATE, READY), ([21], QUEUED_STATE, timeout)]),
        (Step.SUBMIT, [(range(5, 17), READY, in_gateway(1))]),
        (
            Step.DELIVER,
            [
                ([6, 7, 8, 9, 11], in_gateway(1), in_status(delivered)),
                ([10], in_gateway(1), in_status(hard)),
                ([12, 13, 14, 15], in_gateway(1), in_status(soft, 1)),
                ([16], in_gateway(1), in_status(Status.NOT_DELIVERED)),
            ],
        ),
        (Step.SUBMIT, [([14, 15], in_status(soft, 1), in_gateway(2))]),
        (
            Step.DELIVER,
            [
                ([15], in_gateway(2), in_status(soft, 2)),
                ([11], in_status(delivered), in_status(hard)),
            ],
        ),
        (Step.SUBMIT, [([15], in_status(soft, 2), in_gateway(3))]),
        (Step.DELIVER, [([15], in_gateway(3), in_status(soft, 3))]),
    ):
        now = batch.campaign.clock.now()
        with open_entry(database, batch, step, AUTHOR, started_at=now) as written:
            for numbers, source, target in moves:
                request = Move(numbers=numbers, source=source, target=target, at=now)
                assert written.move(request) == numbers, "the factory moves what is there"
    return batch


def read_states(database: Database, batch: Batch) -> dict[int, State]:
    """Return the recorded state of each message of a batch, by its number."""
    query = sa.select(messages).where(
        is_of_message_in(messages, batch),
    )
    with database.read() as connection:
        rows = connection.execute(query.order_by(messages.c.number)).all()
    return {row.number: _state(row.status, row.attempt, row.reason) for row in rows}


def read_notes(database: Database, batch: Batch) -> dict[int, str]:
    """Return the note of the last transition of each message of a batch, if it has one."""
    notes = {}
    with database.read() as connection:
        for number in range(batch.first, batch.last + 1):
            event = read_timeline(connection, batch.campaign, number).events[-1]
            if event.note is not None:
                notes[number] = event.note
    return notes


def read_tallies(database: Database, batch: Batch) -> Counter[State]:
    """Return the tallies of a batch that aren't zero."""
    query = sa.select(tallies).where(
        is_of_batch(tallies, batch),
        tallies.c.messages > 0,
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    return Counter({_state(row.status, row.attempt, row.reason): row.messages for row in rows})


def _state(status: int, attempt: int, reason: int) -> State:
    return State(status=_STATUSES[status], attempt=attempt, reason=_REASONS.get(reason))


_STATUSES = {int(status): status for status in Status}
_REASONS = {int(reason): reason for reason in Reason}


def read_credit(database: Database, campaign: Campaign) -> int | None:
    """Return the credit that a campaign's organization has left; None is no limit."""
    query = sa.select(organizations.c.credit).filter_by(id=campaign.organization.id)
    with database.read() as connection:
        return connection.scalar(query)


def _build_once(build: InvariantQuery) -> InvariantQuery:
    cached = cache(build)
    return lambda ids: cached((*ids,))


_INVARIANTS = [
    replace(invariant, query=_build_once(invariant.query)) for invariant in invariants.INVARIANTS
]
"""The invariants. Each query is built once for the same campaigns, as that takes the most time."""


def find_violations(database: Database, *campaigns: Campaign) -> list[str]:
    """Return the names of the violated invariants."""
    with database.read() as connection:
        findings = invariants.check_invariants(connection, campaigns, _INVARIANTS)
    return [finding.invariant.name for finding in findings if not finding.is_satisfied]


def run_concurrently(*works: Callable[[], T]) -> list[T]:
    """Run functions in threads that start at the same time, and return their results.

    The threads are daemons: one that hangs raises a `TimeoutError` here and doesn't block the exit.
    """
    barrier = Barrier(len(works))
    futures: list[Future[T]] = [Future() for _ in works]

    def begin(work: Callable[[], T], future: Future[T]) -> None:
        try:
            barrier.wait(timeout=TIMEOUT_SECONDS)
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    for work, future in zip(works, futures, strict=True):
        Thread(target=begin, args=(work, future), daemon=True).start()
    return [future.result(timeout=TIMEOUT_SECONDS) for future in futures]


@contextmanager
def connect_interleaved(database: Database, work: Iterator[object]) -> Iterator[Database]:
    """Open a second connection pool; one more step of `work` runs after each statement on it."""
    url = database.engine.url.render_as_string(hide_password=False)
    with closing(connect(url)) as reader:
        sa.event.listen(reader.engine, "after_cursor_execute", lambda *_: next(work, None))
        yield reader


def step_context(database: Database, batch: Batch, *, is_last_try: bool = False) -> StepContext:
    """Return the context of a step on a batch."""
    return StepContext(database=database, batch=batch, author=AUTHOR, is_last_try=is_last_try)


@dataclass
class ScriptedServices:
    """Services that answer by a script and record their calls.

    Attributes:
        script: for each service, by call: the numbers that fail, or the error to raise.
        answers: for each service, the answers by number.
        calls: the calls so far, as (service, attempt, numbers).
    """

    script: Mapping[ServiceName, Sequence[Collection[int] | ServiceUnavailable]] = field(
        default_factory=dict
    )
    answers: Mapping[ServiceName, Mapping[int, object]] = field(default_factory=dict)
    calls: list[tuple[ServiceName, int, list[int]]] = field(default_factory=list)

    def find(self, name: ServiceName) -> Service:
        def answer(
            _: Campaign, numbers: Sequence[int], attempt: int, _now: Instant
        ) -> ServiceAnswers:
            self.calls.append((name, attempt, [*numbers]))
            script = self.script.get(name, ())
            outcome = script[attempt] if attempt < len(script) else ()
            if isinstance(outcome, ServiceUnavailable):
                raise outcome
            failed = {*outcome} & {*numbers}
            answers = self.answers.get(name, {})
            return ServiceAnswers(
                {number: value for number, value in answers.items() if number not in failed}, failed
            )

        return answer


def enqueue_batches(database: Database, campaign: Campaign, size: int = 1) -> Iterator[Batch]:
    """Enqueue one more batch of a campaign on each iteration."""
    for batch in range(1_000):
        yield enqueue_batch(
            database, campaign, batch=batch, first=batch * size, size=size, author=AUTHOR
        )


@dataclass(frozen=True)
class OvertakenDatabase(Database):
    """A database on which other work runs right before each of the next writes, the last first."""

    others: list[Callable[[], object]]

    @contextmanager
    def write(self) -> Iterator[Connection]:
        if self.others:
            self.others.pop()()
        with super().write() as connection:
            yield connection


LONG_AGO = 10 * stalled.STALLED_AFTER


def backdate_batch(
    database: Database, batch: Batch, by: timedelta = LONG_AGO, **columns: int | None
) -> None:
    """Set when a batch was last touched, before now, and other columns."""
    touched_at = batch.campaign.clock.now() - to_microseconds(by)
    with database.write() as connection:
        connection.execute(
            sa.update(batches)
            .where(is_of_batch(batches, batch))
            .values(touched_at=touched_at, **columns)
        )
