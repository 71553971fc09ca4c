"""The action log: who did what to a campaign, a queue, a batch or a run, when and why.

`record_action` belongs in the transaction of the action itself, so that no action is without a row,
and no row without its action.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from tracker.campaign_states import ActionKind, TargetKind
from tracker.clock import Instant, to_datetime
from tracker.record.catalog import Batch, Campaign
from tracker.record.details import clean_text
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

    @property
    def description(self) -> str:
        """The action as a sentence, without its time."""
        what = f"{self.target.kind} {self.target.name} was {self.action.meaning} by {self.actor}"
        return f"{what}: {self.reason}" if self.reason else what

    def as_json(self) -> dict[str, Any]:
        """Return the action as other programs read it; the keys are a contract."""
        return {
            "id": self.id,
            "at": to_datetime(self.at).isoformat(timespec="seconds"),
            "actor": self.actor,
            "action": self.action.value,
            "target_kind": self.target.kind.value,
            "target": self.target.name,
            "campaign_id": self.target.campaign_id,
            "batch": self.target.batch,
            "run": self.target.run_id,
            "reason": self.reason,
        }


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
) -> Action:
    """Record an action, now by the database's clock, and return it.

    Args:
        actor: who did it; cut to MAX_DETAIL_LENGTH, as `reason` is.
        reason: why, or an empty text.
    """
    insert = sa.insert(actions).values(
        at=transaction_start(),
        actor=clean_text(actor),
        action=action,
        target_kind=target.kind,
        target=target.name,
        campaign_id=target.campaign_id,
        batch=target.batch,
        run_id=target.run_id,
        reason=clean_text(reason),
    )
    row = connection.execute(insert.returning(actions)).one()
    return _action_from_row(row)


def read_actions(
    connection: Connection,
    *,
    limit: int | None,
    before: int | None = None,
    run_id: int | None = None,
) -> list[Action]:
    """Return the last actions, the latest first.

    Args:
        limit: how many at most; None for all.
        before: only actions with lower ids, to read the next page; None for the latest.
        run_id: only actions on this run, its campaigns and their batches; None for all.
    """
    query = sa.select(actions).order_by(actions.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(actions.c.id < sa.literal(before, sa.BigInteger))
    if run_id is not None:
        query = query.where(actions.c.run_id == run_id)
    return [_action_from_row(row) for row in connection.execute(query)]


def _action_from_row(row: Row[Any]) -> Action:
    return Action(
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
