"""Re-queue one batch, by the API and by the pages."""

from fastapi import HTTPException

from tracker.campaign_states import ActionKind
from tracker.queries.next_step import next_step
from tracker.record.actions.campaigns import ActionRefused
from tracker.record.actions.log import Action, batch_target, record_action
from tracker.record.catalog import Batch, load_batch
from tracker.store.schema.integers import MAX_INTEGER
from tracker.web.context import WebContext


def find_batch(context: WebContext, campaign_id: int, number: int) -> Batch:
    """Return a batch; raise `NotFound` for an unknown one."""
    with context.read_database() as connection:
        context.load_campaign(connection, campaign_id)
        return load_batch(connection, campaign_id, min(number, MAX_INTEGER))


def requeue_batch(context: WebContext, batch: Batch, *, actor: str, reason: str) -> Action:
    """Queue the step that a batch needs, and return the row of the action log.

    A batch that has a task is left alone: a second one could submit the same messages to a gateway
    that doesn't recognize them.

    Raises:
        ActionRefused: the batch needs no step now, has a task, or no broker is configured.
        HTTPException: the broker doesn't answer; nothing was queued.
    """
    requeue = context.monitoring.requeue_batch
    if requeue is None:
        raise ActionRefused("no broker is configured; set SENDTRACE_BROKER_URL")
    following = next_step(context.database, batch)
    if following is None:
        raise ActionRefused(f"batch {batch.batch} of {batch.campaign.name} needs no step now")
    with context.database.write() as connection:
        action = record_action(
            connection, ActionKind.REQUEUE, batch_target(batch), actor=actor, reason=reason
        )
        # Within the transaction: nothing is queued without a row, and no row stays without a task.
        try:
            is_queued = requeue(batch, following.step)
        except Exception as error:  # clients raise errors of several libraries
            raise HTTPException(503, "The broker doesn't answer; nothing was queued") from error
        if not is_queued:
            raise ActionRefused(f"batch {batch.batch} of {batch.campaign.name} has a task already")
    return action
