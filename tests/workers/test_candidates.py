"""Candidates: recent messages are counted when a rule reads them, once for a whole batch."""

from datetime import datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    make_batch,
    make_sibling,
    move,
    not_sent_for,
    read_states,
    step_context,
)
from tests.support.statements import executed
from tracker.record.catalog import Batch
from tracker.record.journal import QUEUED_STATE, enqueue_batch
from tracker.status import Reason, Step
from tracker.store.database import Database
from workers.candidates import Candidate
from workers.checks.base import Check, check, checks_of
from workers.services.base import SqlServices
from workers.steps import before_gateway


@pytest.fixture
def batch(database: Database) -> Batch:
    """Return a batch of four; customers 1 and 3 have just had a message of another campaign."""
    first = make_batch(database, Plan(size=4))
    move(database, first, [1, 3], READY)
    campaign = make_sibling(database, first.campaign, "second")
    return enqueue_batch(database, campaign, batch=0, first=0, size=4, author=AUTHOR)


def judge(database: Database, batch: Batch, step: Step, *checks: Check) -> int:
    """Judge a batch, and return how many queries counted recent messages."""
    context = step_context(database, batch)
    with executed(database) as statements:
        before_gateway.judge_batch(context, step, checks, SqlServices("", database))
    return sum("transitions.at >" in statement for statement, _ in statements)


def make_greedy(step: Step) -> Check:
    @check(Reason.CUSTOM_RULE, step=step, order=1)
    def greedy(candidate: Candidate, now: datetime) -> bool:
        """Block customers who had a message today."""
        return candidate.recent > 0

    return greedy


@pytest.mark.parametrize("step", [Step.SUPPRESS, Step.VALIDATE])
def test_recent_messages_are_counted_without_a_message_limit(
    database: Database, batch: Batch, step: Step
) -> None:
    assert judge(database, batch, step, make_greedy(step)) == 1, "one query for the whole batch"
    blocked = not_sent_for(Reason.CUSTOM_RULE)
    assert read_states(database, batch) == {
        0: QUEUED_STATE,
        1: blocked,
        2: QUEUED_STATE,
        3: blocked,
    }


@pytest.mark.parametrize("step", [Step.SUPPRESS, Step.VALIDATE])
def test_recent_messages_are_not_counted_unless_they_are_read(
    database: Database, batch: Batch, step: Step
) -> None:
    assert judge(database, batch, step, *checks_of(step)) == 0


def test_a_database_that_is_unavailable_is_no_failed_rule(
    database: Database, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is repeated when it is available again."""

    def lose_database(*_: object, **__: object) -> None:
        raise OperationalError("SELECT 1", {}, Exception("the server closed the connection"))

    monkeypatch.setattr("tracker.record.allowance.count_recent_messages", lose_database)
    with pytest.raises(sa.exc.OperationalError):
        judge(database, batch, Step.SUPPRESS, make_greedy(Step.SUPPRESS))
    assert set(read_states(database, batch).values()) == {QUEUED_STATE}
