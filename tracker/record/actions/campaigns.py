"""Pause, resume and cancel campaigns, for all interfaces.

`pause_campaign`, `resume_campaign` and `cancel_campaign` change the campaign, and write the action
log. `tracker.record.actions.cancellation` moves the messages of a cancelled campaign.

A paused campaign is one whose row says so. Everything that would queue, check or submit a message
reads that row first: the driver, each step's task, and the search for stalled batches. Nothing is
sent to the broker. So it works from every process that reaches the database, and no task is lost
with it: the sweep queues the batches of a resumed campaign again.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from tracker.campaign_states import ActionKind, CampaignState
from tracker.errors import UsageError
from tracker.record.actions.log import Action, campaign_target, record_action
from tracker.record.catalog import Campaign
from tracker.store.database import Database
from tracker.store.schema.catalog import campaigns, runs


class ActionRefused(UsageError):
    """An action makes no sense in the state of its target."""


def pause_campaign(database: Database, campaign: Campaign, *, actor: str, reason: str) -> Action:
    """Pause a campaign: from now on, no step before the gateway begins on its messages.

    Steps in progress end as usual. Receipts and engagement of sent messages are recorded meanwhile.
    Returns the action as it is in the log.

    Args:
        actor: who pauses it, for the action log.
        reason: why; may be empty.

    Raises:
        ActionRefused: it is paused already or cancelled, or its run has ended.
    """
    with database.write() as connection:
        row = _lock_campaign(connection, campaign)
        _refuse_cancelled(campaign, row)
        if row.paused_at is not None:
            raise ActionRefused(f"campaign {campaign.name} is paused already")
        _refuse_ended_run(campaign, row)
        _update(connection, campaign, paused_at=campaign.clock.now())
        return record_action(
            connection, ActionKind.PAUSE, campaign_target(campaign), actor=actor, reason=reason
        )


def resume_campaign(database: Database, campaign: Campaign, *, actor: str, reason: str) -> Action:
    """Resume a paused campaign. Its driver and the next sweep continue it within seconds.

    Returns the action as it is in the log.

    Args:
        actor: who resumes it, for the action log.
        reason: why; may be empty.

    Raises:
        ActionRefused: it isn't paused, or its run is finished.
    """
    with database.write() as connection:
        row = _lock_campaign(connection, campaign)
        _refuse_cancelled(campaign, row)
        if row.finished_at is not None:
            _refuse_ended_run(campaign, row)
        if row.paused_at is None:
            raise ActionRefused(f"campaign {campaign.name} isn't paused")
        _update(connection, campaign, paused_at=None, resumed_at=campaign.clock.now())
        return record_action(
            connection, ActionKind.RESUME, campaign_target(campaign), actor=actor, reason=reason
        )


def cancel_campaign(database: Database, campaign: Campaign, *, actor: str, reason: str) -> Action:
    """Cancel a campaign: from now on, none of its messages is offered to the gateway.

    Submissions that have begun end as usual. The messages are moved by
    `tracker.record.actions.cancellation.cancel_recorded_messages`, which the caller calls next;
    what it leaves, the steps and the driver cancel. Returns the action as it is in the log.

    Args:
        actor: who cancels it, for the action log.
        reason: why; may be empty.

    Raises:
        ActionRefused: it is cancelled already, or its run has ended.
    """
    with database.write() as connection:
        row = _lock_campaign(connection, campaign)
        _refuse_cancelled(campaign, row)
        _refuse_ended_run(campaign, row)
        _update(connection, campaign, cancelled_at=campaign.clock.now(), paused_at=None)
        return record_action(
            connection, ActionKind.CANCEL, campaign_target(campaign), actor=actor, reason=reason
        )


def _refuse_cancelled(campaign: Campaign, row: Row[Any]) -> None:
    if row.cancelled_at is not None:
        raise ActionRefused(f"campaign {campaign.name} is cancelled already")


def _lock_campaign(connection: Connection, campaign: Campaign) -> Row[Any]:
    """Lock a campaign until the transaction ends, and return its state and that of its run.

    Rows that refer to the campaign, such as new batches, needn't wait.
    """
    query: sa.Select[Any] = (
        sa.select(
            campaigns.c.paused_at,
            campaigns.c.cancelled_at,
            runs.c.finished_at,
            runs.c.given_up_as,
        )
        .join(runs, runs.c.id == campaigns.c.run_id)
        .where(campaigns.c.id == campaign.id)
    )
    return connection.execute(query.with_for_update(key_share=True, of=campaigns)).one()


def _refuse_ended_run(campaign: Campaign, row: Row[Any]) -> None:
    """Raise ActionRefused if the end of the campaign's run is on record."""
    state = row.given_up_as if row.finished_at is None else CampaignState.FINISHED
    if state is not None:
        raise ActionRefused(
            f"campaign {campaign.name} can't change: run {campaign.run_id} is {state}"
        )


def _update(connection: Connection, campaign: Campaign, **values: int | None) -> None:
    connection.execute(sa.update(campaigns).where(campaigns.c.id == campaign.id).values(values))
