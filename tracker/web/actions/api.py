"""The requests that act, and the action log. Acting needs the bearer token."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field

from tracker.record.actions.log import Action, read_actions
from tracker.store.schema.integers import MAX_INTEGER
from tracker.web.actions.batches import find_batch, requeue_batch
from tracker.web.actions.campaigns import act_on_campaign, find_action
from tracker.web.context import Context
from tracker.web.security import require_bearer

MAX_PAGE_ACTIONS = 200

MAX_TEXT_LENGTH = 500
"""Characters of a reason."""

ACTION_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Missing or wrong bearer token."},
    404: {"description": "Unknown campaign; `detail` names existing ones."},
    422: {"description": "The action makes no sense in the campaign's state; `detail` says why."},
}


class ActionIn(BaseModel):
    """Who acts, and why."""

    reason: str = Field(default="", max_length=MAX_TEXT_LENGTH, description="why")
    actor: str = Field(
        default="API", min_length=1, max_length=100, description="who, for the action log"
    )


class ActionModel(BaseModel):
    """A row of the action log."""

    id: int = Field(description="the row's number")
    at: str = Field(description="time, ISO 8601 in UTC")
    actor: str = Field(description="who: a user of the system, of the page, or of the API")
    action: str = Field(description="what was done: pause, resume, cancel or requeue")
    target_kind: str = Field(description="campaign or batch")
    target: str = Field(description="name of the campaign, or CAMPAIGN/BATCH")
    campaign_id: int | None = Field(description="the campaign, also of a batch")
    batch: int | None = Field(description="the batch's number in its campaign")
    run: int | None = Field(description="the run, also of a campaign or a batch")
    reason: str = Field(description="why; may be empty")

    @classmethod
    def of(cls, action: Action) -> "ActionModel":
        """Build the model of a row."""
        return cls(**action.as_json())


log_router = APIRouter(prefix="/api", tags=["actions"])
acting_router = APIRouter(prefix="/api", tags=["actions"], dependencies=[Depends(require_bearer)])


@log_router.get("/actions", summary="The action log", operation_id="list_actions")
def list_actions(
    context: Context,
    before: Annotated[
        int | None,
        Query(ge=1, le=MAX_INTEGER, description="Only rows with a lower `id`, for the next page."),
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_PAGE_ACTIONS, description="Rows at most.")
    ] = MAX_PAGE_ACTIONS,
) -> list[ActionModel]:
    """Return what people did to campaigns and batches, the latest first."""
    with context.read_database() as connection:
        actions = read_actions(connection, limit=limit, before=before)
    return [ActionModel.of(action) for action in actions]


@acting_router.post(
    "/campaigns/{campaign_id}/batches/{batch}/requeue",
    summary="Re-queue a batch",
    responses={
        **ACTION_RESPONSES,
        503: {"description": "The broker doesn't answer; nothing was queued."},
    },
    operation_id="requeue_batch",
)
def requeue(
    campaign_id: Annotated[int, Path(description="The campaign's id, as in /api/campaigns.")],
    batch: Annotated[int, Path(ge=0, description="The batch's number, as in /api/standstill.")],
    context: Context,
    body: ActionIn | None = None,
) -> ActionModel:
    """Queue the step that a batch needs, and return the row of the action log.

    A batch that has a task in a queue or with a worker is refused.
    """
    details = body or ActionIn()
    target = find_batch(context, campaign_id, batch)
    done = requeue_batch(context, target, actor=details.actor, reason=details.reason)
    return ActionModel.of(done)


@acting_router.post(
    "/campaigns/{campaign_id}/{action}",
    summary="Act on a campaign",
    responses=ACTION_RESPONSES,
    operation_id="act_on_campaign",
)
def act(
    campaign_id: Annotated[int, Path(description="The campaign's id, as in /api/campaigns.")],
    action: Annotated[str, Path(description="What to do: `pause`, `resume` or `cancel`.")],
    context: Context,
    body: ActionIn | None = None,
) -> ActionModel:
    """Pause, resume or cancel a campaign, and return the row of the action log.

    While it is paused, no message is queued, checked or submitted. After it is cancelled, what the
    gateway doesn't have is Not Sent. What is in the gateway goes on.
    """
    details = body or ActionIn()
    kind = find_action(action)
    done = act_on_campaign(context, campaign_id, kind, actor=details.actor, reason=details.reason)
    return ActionModel.of(done)
