"""The action log: each action is a row that says who did what to what, when and why."""

import time

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tests.support.factory import Plan, make_batch
from tracker.campaign_states import ActionKind, TargetKind
from tracker.record.actions.log import (
    ActionTarget,
    batch_target,
    campaign_target,
    queue_target,
    read_actions,
    record_action,
    run_target,
)
from tracker.store.database import Database
from tracker.store.schema.work import actions


def record(database: Database, action: ActionKind, target: ActionTarget, reason: str = "") -> int:
    with database.write() as connection:
        return record_action(connection, action, target, actor="asha", reason=reason).id


def test_an_action_says_who_did_what_to_what_when_and_why(database: Database) -> None:
    batch = make_batch(database, Plan(name="diwali"))
    before = time.time_ns() // 1_000
    action_id = record(
        database, ActionKind.CANCEL, campaign_target(batch.campaign), "wrong coupon: ₹ statt €"
    )
    with database.read() as connection:
        [action] = read_actions(connection, limit=10)
    assert (action.id, action.actor, action.action) == (action_id, "asha", ActionKind.CANCEL)
    assert action.reason == "wrong coupon: ₹ statt €"
    assert action.target == ActionTarget(
        kind=TargetKind.CAMPAIGN,
        name="diwali",
        campaign_id=batch.campaign.id,
        run_id=batch.campaign.run_id,
    )
    second = 1_000_000  # the database may round, and its clock is that of the same machine
    assert before - second <= action.at <= time.time_ns() // 1_000 + second


def test_each_kind_of_target_has_its_keys(database: Database) -> None:
    batch = make_batch(database, Plan(name="diwali"))
    targets = [
        campaign_target(batch.campaign),
        batch_target(batch),
        queue_target("about_to_be_sent"),
        run_target(batch.campaign.run_id),
    ]
    for target in targets:
        record(database, ActionKind.PAUSE, target)
    with database.read() as connection:
        recorded = [action.target for action in read_actions(connection, limit=10)]
        of_run = read_actions(connection, limit=10, run_id=batch.campaign.run_id)
        of_other = read_actions(connection, limit=10, run_id=batch.campaign.run_id + 1)
    assert recorded == targets[::-1]
    assert [target.name for target in targets] == [
        "diwali",
        "diwali/0",
        "about_to_be_sent",
        str(batch.campaign.run_id),
    ]
    assert [action.target.kind for action in of_run] == ["run", "batch", "campaign"]
    assert of_other == []


def test_actions_are_read_in_pages_the_latest_first(database: Database) -> None:
    ids = [record(database, kind, queue_target("gateway")) for kind in ActionKind]
    with database.read() as connection:
        first = read_actions(connection, limit=3)
        second = read_actions(connection, limit=3, before=first[-1].id)
        none = read_actions(connection, limit=3, before=ids[0])
        all_ = read_actions(connection, limit=10, before=2**62)
    assert [action.id for action in first + second] == ids[::-1]
    assert [action.action for action in all_] == list(ActionKind)[::-1]
    assert none == []


@pytest.mark.parametrize(
    "values", [{"action": "delete"}, {"target_kind": "customer"}, {"actor": None}, {"reason": None}]
)
def test_an_unknown_action_or_target_is_rejected(
    database: Database, values: dict[str, str | None]
) -> None:
    record(database, ActionKind.STOP, run_target(1))
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(sa.update(actions).values(values))
