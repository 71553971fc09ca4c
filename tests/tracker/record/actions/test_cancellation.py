"""Cancelling: no message is both accepted and cancelled, and nothing is accepted afterwards."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from simulator.results.invariants import INVARIANTS
from simulator.schema import acceptances
from simulator.world.gateway import SimulatedGateway
from tests.support.factory import AUTHOR, Plan, make_batch, make_busy_batch
from tests.support.inline_runs import run_step, settle_batch
from tracker.audit.invariants import check_invariants
from tracker.campaign_states import CampaignState
from tracker.queries.next_step import NextStep, next_step
from tracker.queries.report import make_reports
from tracker.record.actions.campaigns import (
    ActionRefused,
    cancel_campaign,
    pause_campaign,
    resume_campaign,
)
from tracker.record.actions.cancellation import cancel_recorded_messages
from tracker.record.actions.log import read_actions
from tracker.record.actions.submissions import begin_submission
from tracker.record.catalog import Batch, load_batch
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import organizations
from tracker.store.schema.messages import messages
from tracker.store.schema.work import open_submissions
from workers.gateways.base import GatewayUnavailable, Submission, SubmissionResult


def cancel(database: Database, batch: Batch) -> None:
    cancel_campaign(database, batch.campaign, actor="asha", reason="recall")
    cancel_recorded_messages(database, batch.campaign, AUTHOR)


def reload(database: Database, batch: Batch) -> Batch:
    with database.read() as connection:
        return load_batch(connection, batch.campaign.id, batch.batch)


def read_states(database: Database) -> dict[int, tuple[Status, int]]:
    with database.read() as connection:
        rows = connection.execute(
            sa.select(messages.c.number, messages.c.status, messages.c.attempt, messages.c.reason)
        ).all()
    return {
        row.number: (Status(row.status), row.attempt)
        for row in rows
        if row.reason != Reason.CANCELLED
    }


def find_cancelled(database: Database) -> set[int]:
    with database.read() as connection:
        query = sa.select(messages.c.number).where(messages.c.reason == Reason.CANCELLED)
        return set(connection.scalars(query))


def find_accepted(database: Database) -> set[int]:
    with database.read() as connection:
        return set(connection.scalars(sa.select(acceptances.c.number)))


def assert_sound(database: Database, batch: Batch) -> None:
    with database.read() as connection:
        results = check_invariants(connection, [batch.campaign], INVARIANTS)
    assert [result.as_json() for result in results if not result.is_satisfied] == []


def count_open(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(open_submissions)) or 0


def test_what_the_gateway_has_goes_on_and_the_rest_is_not_sent(database: Database) -> None:
    batch = make_busy_batch(database)
    before = read_states(database)
    cancel(database, batch)
    assert find_cancelled(database) == {0, 1, 2, 3, 4}
    after = read_states(database)
    assert after == {number: state for number, state in before.items() if number in after}
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
        [action] = read_actions(connection, limit=10)
    assert report.state is CampaignState.CANCELLED
    assert report.is_balanced
    assert report.pending == 0, "soft bounces have no further attempt"
    assert report.as_json()["not_sent"]["internally_suppressed"]["cancelled"] == 5
    assert action.description == "campaign spring was cancelled by asha: recall"


def test_a_cancelled_campaign_stays_cancelled(database: Database) -> None:
    batch = make_busy_batch(database)
    pause_campaign(database, batch.campaign, actor="asha", reason="")
    cancel(database, batch)
    for act in (cancel_campaign, pause_campaign, resume_campaign):
        with pytest.raises(ActionRefused, match="campaign spring is cancelled already"):
            act(database, batch.campaign, actor="ben", reason="")
    assert reload(database, batch).campaign.paused_at is None


def test_credit_of_cancelled_messages_is_refunded(database: Database) -> None:
    batch = make_batch(database, Plan(size=10, credit=8))
    for step in (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH):
        run_step(database, batch, step)
    cancel(database, batch)
    with database.read() as connection:
        assert connection.scalar(sa.select(organizations.c.credit)) == 8
    assert len(find_cancelled(database)) == 8
    assert_sound(database, batch)


@pytest.mark.parametrize("done", range(4))
def test_the_steps_cancel_what_is_left(database: Database, done: int) -> None:
    """A process that cancels may die before it moves a message."""
    batch = make_batch(database)
    for step in (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH)[:done]:
        run_step(database, batch, step)
    cancel_campaign(database, batch.campaign, actor="asha", reason="")
    assert next_step(database, reload(database, batch)) == NextStep(Step.SUBMIT)
    settle_batch(database, reload(database, batch))
    assert len(find_cancelled(database)) == 10
    assert find_accepted(database) == set()
    assert_sound(database, batch)


class MeddlingGateway(SimulatedGateway):
    """The simulated gateway, with something that happens just before or after it accepts."""

    before: Callable[[], None] = staticmethod(lambda: None)
    after: Callable[[], None] = staticmethod(lambda: None)

    def submit(self, submission: Submission, now: int) -> SubmissionResult:
        self.before()
        result = super().submit(submission, now)
        self.after()
        return result


def prepare(database: Database) -> tuple[Batch, MeddlingGateway]:
    batch = make_batch(database)
    for step in (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH):
        run_step(database, batch, step)
    return batch, MeddlingGateway(batch.campaign.gateway_settings, database)


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_being_submitted_is_not_cancelled(database: Database, when: str) -> None:
    batch, gateway = prepare(database)
    setattr(gateway, when, lambda: cancel(database, batch))
    run_step(database, batch, Step.SUBMIT, gateway)
    assert find_cancelled(database) == set()
    assert find_accepted(database) == set(range(10))
    assert count_open(database) == 0
    assert_sound(database, batch)


class Killed(Exception):
    """The process of a step died."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_submission_whose_step_died_is_ended_and_the_rest_is_cancelled(
    database: Database, when: str
) -> None:
    batch, gateway = prepare(database)

    def die() -> None:
        raise Killed

    setattr(gateway, when, die)
    part = Batch(campaign=batch.campaign, batch=0, first=0, size=6)
    submit_directly(database, part, gateway)
    assert count_open(database) == 1
    cancel(database, batch)
    assert find_cancelled(database) == {6, 7, 8, 9}, "the gateway may have the others"
    following = next_step(database, reload(database, batch))
    assert following == NextStep(Step.SUBMIT)
    settle_batch(database, reload(database, batch))
    assert find_accepted(database) == set(range(6))
    assert find_cancelled(database) == {6, 7, 8, 9}
    assert count_open(database) == 0
    assert_sound(database, batch)


def submit_directly(database: Database, part: Batch, gateway: Any) -> None:
    """Submit some messages of a batch in a step that dies."""
    from tests.support.factory import step_context
    from workers.gateways.throttle import UnlimitedThrottle
    from workers.steps import at_gateway

    with pytest.raises(Killed):
        at_gateway.submit(step_context(database, part), gateway, UnlimitedThrottle())


def test_an_unavailable_gateway_keeps_no_message_from_being_cancelled(database: Database) -> None:
    batch, gateway = prepare(database)

    def refuse() -> None:
        raise GatewayUnavailable("connection refused")

    gateway.before = refuse
    with pytest.raises(GatewayUnavailable):
        run_step(database, batch, Step.SUBMIT, gateway)
    assert count_open(database) == 0
    cancel(database, batch)
    assert find_cancelled(database) == set(range(10))


def test_nothing_is_submitted_by_a_step_that_began_before_the_campaign_was_cancelled(
    database: Database,
) -> None:
    batch, _ = prepare(database)
    cancel_campaign(database, batch.campaign, actor="asha", reason="")
    assert begin_submission(database, batch, attempt=1, numbers=[3]) is None
    assert count_open(database) == 0


def test_soft_bounces_are_not_submitted_again(database: Database) -> None:
    batch = make_busy_batch(database)
    cancel(database, batch)
    loaded = reload(database, batch)
    assert next_step(database, loaded) is None
    run_step(database, loaded, Step.SUBMIT)
    states = read_states(database)
    assert {states[number] for number in (12, 13)} == {(Status.SOFT_BOUNCED, 1)}
    assert find_accepted(database) == set()
