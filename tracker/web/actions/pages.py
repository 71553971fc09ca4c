"""The pages that act: a form that asks for confirmation, and the action log."""

from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from anyio.to_thread import run_sync
from fastapi import APIRouter, HTTPException, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tracker.campaign_states import ActionKind
from tracker.clock import to_datetime
from tracker.record.actions.log import read_actions
from tracker.store.schema.integers import MAX_INTEGER
from tracker.web.actions.api import MAX_PAGE_ACTIONS, MAX_TEXT_LENGTH
from tracker.web.actions.batches import find_batch, requeue_batch
from tracker.web.actions.campaigns import act_on_campaign, find_action
from tracker.web.context import Context
from tracker.web.security import read_user

MAX_FORM_BYTES = 8 * MAX_TEXT_LENGTH
"""Bytes of a form: a character takes up to twelve, most take one."""

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/actions")
def show_actions(
    context: Context, before: Annotated[int | None, Query(ge=1, le=MAX_INTEGER)] = None
) -> HTMLResponse:
    """Show what people did, the latest first."""
    with context.read_database() as connection:
        actions = read_actions(connection, limit=MAX_PAGE_ACTIONS + 1, before=before)
    return context.render_page(
        "web/actions.html",
        current_page="/operations",
        title="Action log",
        actions=[(to_datetime(action.at), action) for action in actions[:MAX_PAGE_ACTIONS]],
        has_more=len(actions) > MAX_PAGE_ACTIONS,
    )


@router.get("/campaigns/{campaign_id:int}/{action}")
def confirm(campaign_id: int, action: str, request: Request, context: Context) -> HTMLResponse:
    """Ask whether to act on a campaign."""
    kind = find_action(action)
    report = context.load_report(campaign_id)
    return context.render_page(
        "web/confirm.html",
        current_page="/",
        title=f"{kind.value.capitalize()} {report.campaign.name}",
        campaign=report.campaign,
        target=report.campaign.name,
        meaning=kind.meaning,
        form_token=context.form_tokens.issue(request.url.path),
        max_length=MAX_TEXT_LENGTH,
    )


@router.get("/campaigns/{campaign_id:int}/batches/{number:int}/requeue")
def confirm_requeue(
    campaign_id: int, number: int, request: Request, context: Context
) -> HTMLResponse:
    """Ask whether to re-queue a batch."""
    batch = find_batch(context, campaign_id, number)
    return context.render_page(
        "web/confirm.html",
        current_page="/operations",
        title=f"Re-queue batch {number} of {batch.campaign.name}",
        campaign=batch.campaign,
        target=f"batch {number}",
        meaning=ActionKind.REQUEUE.meaning,
        form_token=context.form_tokens.issue(request.url.path),
        max_length=MAX_TEXT_LENGTH,
    )


@router.post("/campaigns/{campaign_id:int}/batches/{number:int}/requeue")
async def requeue(campaign_id: int, number: int, request: Request, context: Context) -> Response:
    """Re-queue a batch, if the form was shown by this server, and return to the operations page."""
    reason = await _read_reason(request, context)
    actor = read_user(request) or "page"

    def run() -> None:
        batch = find_batch(context, campaign_id, number)
        requeue_batch(context, batch, actor=actor, reason=reason)

    await run_sync(run)
    return RedirectResponse("/operations", 303)


@router.post("/campaigns/{campaign_id:int}/{action}")
async def act(campaign_id: int, action: str, request: Request, context: Context) -> Response:
    """Act on a campaign, if the form was shown by this server, and return to its page."""
    kind = find_action(action)
    reason = await _read_reason(request, context)
    actor = read_user(request) or "page"

    def run() -> None:
        act_on_campaign(context, campaign_id, kind, actor=actor, reason=reason)

    await run_sync(run)
    await context.live.refresh()
    return RedirectResponse(f"/campaigns/{campaign_id}", 303)


async def _read_reason(request: Request, context: Context) -> str:
    """Return the reason in a form that was sent; refuse with 403 one that this server didn't show.

    The password of a browser isn't enough, as it is sent with requests that other pages make.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "Forms of other sites are refused")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413, f"The form has more than {MAX_FORM_BYTES:,} bytes")
    fields = parse_qs(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=10)
    token = fields.get("token", [""])[0]
    if not context.form_tokens.is_valid(request.url.path, token):
        raise HTTPException(403, "The form is too old, or not of this server; open it again")
    return fields.get("reason", [""])[0].strip()[:MAX_TEXT_LENGTH]
