"""The JSON API."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import StreamingResponse

from tracker.queries.message_lookup import check_message_exists
from tracker.queries.timeline import read_timeline
from tracker.web.api_models import (
    CampaignModel,
    CheckVerdictModel,
    MessageModel,
    MessagesModel,
    OperationsModel,
    OverviewModel,
    StalledBatchModel,
)
from tracker.web.context import Context, WebContext
from tracker.web.progress import UpdateView, make_campaign_progress, queue_depths
from tracker.web.queries import (
    CONTACTS_DESCRIPTION,
    MessageQuery,
    explain_checks,
    find_message_page,
)

KEEP_ALIVE_SECONDS = 15.0
"""Seconds of silence after which a stream sends a comment, so that proxies keep it open."""

NO_BUFFERING_HEADERS = {"X-Accel-Buffering": "no"}
"""Headers that make nginx pass each event on at once."""

NOT_FOUND_RESPONSE: dict[int | str, dict[str, Any]] = {
    404: {"description": "Unknown campaign or message; `detail` names existing ones."}
}

CampaignId = Annotated[int, Path(description="The campaign's id, as in /api/campaigns.")]
MessageNumber = Annotated[
    int, Path(description="The message's number within its campaign, from 0.")
]

# Explicit operation ids: generated clients use them as names, so they outlive a renamed function.
router = APIRouter(prefix="/api")


@router.get(
    "/campaigns",
    summary="The campaigns",
    tags=["campaigns"],
    operation_id="campaigns_api_campaigns_get",
)
def list_campaigns(context: Context) -> OverviewModel:
    """Return the latest campaigns and older ones that a viewer has opened, the latest first."""
    snapshot = context.live.snapshot
    return OverviewModel(
        at=snapshot.at,
        trouble=snapshot.database_error,
        campaigns=[
            CampaignModel.of(make_campaign_progress(snapshot, report))
            for _, report in sorted(snapshot.reports.items(), reverse=True)
        ],
    )


@router.get(
    "/campaigns/{campaign_id}",
    summary="A campaign",
    tags=["campaigns"],
    responses=NOT_FOUND_RESPONSE,
    operation_id="campaign_api_campaigns__campaign_id__get",
)
def get_campaign(campaign_id: CampaignId, context: Context) -> CampaignModel:
    """Return the progress of a campaign."""
    report = context.load_report(campaign_id)
    return CampaignModel.of(make_campaign_progress(context.live.snapshot, report))


@router.get(
    "/campaigns/{campaign_id}/report",
    summary="The Live Monitoring Report",
    tags=["campaigns"],
    responses=NOT_FOUND_RESPONSE,
    operation_id="report_api_campaigns__campaign_id__report_get",
)
def get_report(campaign_id: CampaignId, context: Context) -> dict[str, Any]:
    """Return the Live Monitoring Report, as `sendtrace report --format json` prints it."""
    return context.load_report(campaign_id).as_json()


@router.get(
    "/campaigns/{campaign_id}/days",
    summary="Engagement by day",
    tags=["campaigns"],
    responses=NOT_FOUND_RESPONSE,
    operation_id="days_api_campaigns__campaign_id__days_get",
)
def get_days(campaign_id: CampaignId, context: Context) -> dict[str, Any]:
    """Return the engagement by day, as `sendtrace report --days --format json` prints it."""
    return context.load_report(campaign_id).days_as_json()


@router.get(
    "/campaigns/{campaign_id}/messages",
    summary="Messages behind a number",
    tags=["messages"],
    responses=NOT_FOUND_RESPONSE,
    operation_id="messages_api_campaigns__campaign_id__messages_get",
)
def list_messages(
    campaign_id: CampaignId, query: Annotated[MessageQuery, Query()], context: Context
) -> MessagesModel:
    """Return the messages behind a number of the report, in the order of their numbers."""
    report, page = find_message_page(context, campaign_id, query)
    is_unmasked = context.can_show_contacts(query.contacts)
    return MessagesModel(
        **report.origin.as_json(),
        total=page.total,
        next=page.after,
        messages=[MessageModel.of(message, is_unmasked=is_unmasked) for message in page.messages],
    )


@router.get(
    "/campaigns/{campaign_id}/messages/{number}",
    summary="The timeline of a message",
    tags=["messages"],
    responses=NOT_FOUND_RESPONSE,
    operation_id="message_api_campaigns__campaign_id__messages__number__get",
)
def get_message(campaign_id: CampaignId, number: MessageNumber, context: Context) -> dict[str, Any]:
    """Return the timeline of a message, as `sendtrace trace --format json` prints it.

    If a check deferred the message, `deferred` has the check's name (`check`) and the time of the
    next judgement (`until`). Otherwise it is null.
    """
    with context.read_database() as connection:
        campaign = context.load_campaign(connection, campaign_id)
        return read_timeline(connection, campaign, number).as_json()


@router.get(
    "/campaigns/{campaign_id}/messages/{number}/checks",
    summary="The checks of a message",
    tags=["messages"],
    responses=NOT_FOUND_RESPONSE,
    operation_id="checks_api_campaigns__campaign_id__messages__number__checks_get",
)
def list_check_verdicts(
    campaign_id: CampaignId,
    number: MessageNumber,
    context: Context,
    contacts: Annotated[str | None, Query(description=CONTACTS_DESCRIPTION)] = None,
) -> list[CheckVerdictModel]:
    """Return every check's verdict on a message, evaluated now, and the values that it read."""
    with context.read_database() as connection:
        campaign = context.load_campaign(connection, campaign_id)
        check_message_exists(connection, campaign, number)
    is_unmasked = context.can_show_contacts(contacts)
    verdicts = explain_checks(context, campaign, number, is_unmasked=is_unmasked)
    return [CheckVerdictModel.of(verdict) for verdict in verdicts or ()]


@router.get(
    "/standstill",
    summary="Operations",
    tags=["operations"],
    operation_id="standstill_api_standstill_get",
)
def get_operations(context: Context) -> OperationsModel:
    """Return stalled batches, workers, queues without a worker, and recent failures."""
    activity = context.read_worker_activity()
    commands = context.monitoring.commands
    batches = [
        StalledBatchModel.of(
            batch,
            None
            if commands is None
            else commands.requeue(batch.campaign.id, batch.batch, batch.step),
        )
        for batch in context.live.snapshot.stalled.batches
    ]
    return OperationsModel.of(batches, activity, context.find_unserved_queues(activity))


@router.get(
    "/queues",
    summary="The queues",
    tags=["operations"],
    operation_id="queues_api_queues_get",
)
def get_queues(context: Context) -> dict[str, dict[str, int]] | None:
    """Return the ready and unacked tasks of each queue; null while the broker is unavailable."""
    return queue_depths(context.live.snapshot)


@router.get(
    "/events",
    summary="Live updates",
    tags=["operations"],
    response_class=StreamingResponse,
    operation_id="events_api_events_get",
)
async def stream_events(
    context: Context,
    campaign_id: Annotated[
        int | None, Query(alias="campaign", description="The campaign's id.")
    ] = None,
    view: Annotated[
        Literal["overview", "health"],
        Query(description="What to stream if no campaign is given: overview or health."),
    ] = "overview",
) -> StreamingResponse:
    """Stream the numbers of a campaign, or those of the overview, as server-sent events.

    Each event has the health strip of the pages as HTML.
    """
    if campaign_id is not None:
        await run_sync(context.load_report, campaign_id)
    return StreamingResponse(
        _make_events(context, UpdateView(view) if campaign_id is None else campaign_id),
        media_type="text/event-stream",
        headers=NO_BUFFERING_HEADERS,
    )


@router.get("/openapi.json", include_in_schema=False)
def get_openapi(request: Request) -> dict[str, Any]:
    """Return the API's OpenAPI description."""
    schema: dict[str, Any] = request.app.openapi()
    return schema


async def _make_events(context: WebContext, view: int | UpdateView) -> AsyncIterator[str]:
    number, sent_json = -1, ""
    while not context.live.is_stopped:
        snapshot = await context.live.wait_for_newer(number, KEEP_ALIVE_SECONDS)
        if snapshot.number <= number:
            yield ": keep-alive\n\n"
            continue
        number = snapshot.number
        update_json = context.live_updates.latest_json(view)
        yield ": unchanged\n\n" if update_json == sent_json else f"data: {update_json}\n\n"
        sent_json = update_json
