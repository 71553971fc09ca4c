"""The action log: who did what to a campaign, a queue, a batch or a run, when and why.

`record_action` belongs in the transaction of the action itself, so that no action is without a row,
and no row without its action.
"""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.campaign_states import ActionKind, TargetKind
from tracker.clock import Instant
from tracker.record.catalog import Batch, Campaign
from tracker.store.database_clock import transaction_start
from tracker.store.schema.work import actions


@dataclass(frozen=True, kw_only=True)
class ActionTarget:
    """What a person acted on; made by `campaign_target` and its neighbours.

    Attributes:
        name: the name of the campaign or queue, CAMPAIGN/BATCH, or the number of the run.
        run_id: the run, also of a campaign or a batch.
    """

    kind: TargetKind
    name: str
    campaign_id: int | None = None
    batch: int | None = None
    run_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Action:
    """A row of the action log.

    Attributes:
        at: real time, by the database's clock.
        actor: who: the user of the operating system, or a name that a program gave.
        reason: why; may be empty.
    """

    id: int
    at: Instant
    actor: str
    action: ActionKind
    target: ActionTarget
    reason: str


def campaign_target(campaign: Campaign) -> ActionTarget:
    """Return a campaign as the target of an action."""
    return ActionTarget(
        kind=TargetKind.CAMPAIGN,
        name=campaign.name,
        campaign_id=campaign.id,
        run_id=campaign.run_id,
    )


def batch_target(batch: Batch) -> ActionTarget:
    """Return a batch as the target of an action."""
    campaign = batch.campaign
    return ActionTarget(
        kind=TargetKind.BATCH,
        name=f"{campaign.name}/{batch.batch}",
        campaign_id=campaign.id,
        batch=batch.batch,
        run_id=campaign.run_id,
    )


def queue_target(queue: str) -> ActionTarget:
    """Return a queue as the target of an action."""
    return ActionTarget(kind=TargetKind.QUEUE, name=queue)


def run_target(run_id: int) -> ActionTarget:
    """Return a run as the target of an action."""
    return ActionTarget(kind=TargetKind.RUN, name=str(run_id), run_id=run_id)


def record_action(
    connection: Connection, action: ActionKind, target: ActionTarget, *, actor: str, reason: str
) -> int:
    """Record an action, now by the database's clock, and return its id.

    Args:
        actor: who did it.
        reason: why, or an empty text.
    """
    insert = sa.insert(actions).values(
        at=transaction_start(),
        actor=actor,
        action=action,
        target_kind=target.kind,
        target=target.name,
        campaign_id=target.campaign_id,
        batch=target.batch,
        run_id=target.run_id,
        reason=reason,
    )
    action_id: int = connection.execute(insert.returning(actions.c.id)).scalar_one()
    return action_id


def read_actions(
    connection: Connection, *, limit: int, before: int | None = None, run_id: int | None = None
) -> list[Action]:
    """Return the last actions, the latest first.

    Args:
        limit: how many at most.
        before: only actions with lower ids, to read the next page; None for the latest.
        run_id: only actions on this run, its campaigns and their batches; None for all.
    """
    query = sa.select(actions).order_by(actions.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(actions.c.id < sa.literal(before, sa.BigInteger))
    if run_id is not None:
        query = query.where(actions.c.run_id == run_id)
    return [
        Action(
            id=row.id,
            at=row.at,
            actor=row.actor,
            action=ActionKind(row.action),
            target=ActionTarget(
                kind=TargetKind(row.target_kind),
                name=row.target,
                campaign_id=row.campaign_id,
                batch=row.batch,
                run_id=row.run_id,
            ),
            reason=row.reason,
        )
        for row in connection.execute(query)
    ]
