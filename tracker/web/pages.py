"""The pages of the live page."""

from contextlib import suppress
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tracker.clock import to_datetime
from tracker.errors import SendtraceError
from tracker.output.report_lines import (
    SHARES_MEANING,
    all_report_lines,
    balance_line,
    describe_titles,
)
from tracker.queries.timeline import read_timeline
from tracker.status import Category, Engagement, Reason, Status
from tracker.web.actions.campaigns import list_offered
from tracker.web.api_reference import format_type_as_html, list_fields, list_models, list_requests
from tracker.web.charts import make_live_charts
from tracker.web.context import Context
from tracker.web.masking import mask_email, mask_mobile
from tracker.web.progress import make_campaign_progress, queue_depths, recent_throughput
from tracker.web.queries import LINE_QUERIES, MessageQuery, explain_checks, find_message_page

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/")
def show_campaigns(context: Context) -> HTMLResponse:
    """Show the latest campaigns, the latest first."""
    snapshot = context.live.snapshot
    return context.render_page(
        "web/campaigns.html",
        current_page="/",
        title="Campaigns",
        campaigns=[
            make_campaign_progress(snapshot, report)
            for _, report in sorted(snapshot.reports.items(), reverse=True)
        ],
    )


@router.get("/campaigns/{campaign_id:int}")
def show_campaign(campaign_id: int, context: Context) -> HTMLResponse:
    """Show the Live Monitoring Report of a campaign."""
    report = context.load_report(campaign_id)
    snapshot = context.live.snapshot
    lines = list(all_report_lines(report, context.settings.zone))
    return context.render_page(
        "web/campaign.html",
        current_page="/",
        title=report.campaign.name,
        progress=make_campaign_progress(snapshot, report),
        report=report,
        titles=describe_titles(report),
        counts={line.path: line.count for line in lines},
        lines=lines,
        balance=balance_line(report),
        shares_meaning=SHARES_MEANING,
        origin=report.origin,
        line_queries=LINE_QUERIES,
        categories=list(Category),
        throughput=recent_throughput(context.live.progress_history(campaign_id)),
        queues=queue_depths(snapshot),
        actions=list_offered(report.state),
    )


@router.get("/campaigns/{campaign_id:int}/charts")
def show_charts(campaign_id: int, context: Context, zone: str = "") -> HTMLResponse:
    """Return the charts of a campaign, which its page loads and refreshes.

    Their clock is in the viewer's `zone`; if that is unknown here, in that of the settings.
    """
    report = context.load_report(campaign_id)
    viewer_zone = context.settings.zone
    with suppress(ZoneInfoNotFoundError, ValueError, OSError):
        viewer_zone = ZoneInfo(zone)

    def render() -> str:
        charts = make_live_charts(
            context.live.progress_history(campaign_id),
            tuple(context.live.queue_history),
            report,
            context.settings.zone,
            viewer_zone,
        )
        return context.render_template("web/charts.html", charts=charts)

    return HTMLResponse(context.chart_cache.get(campaign_id, viewer_zone.key, render))


@router.get("/campaigns/{campaign_id:int}/messages")
def show_messages(
    campaign_id: int, query: Annotated[MessageQuery, Query()], context: Context
) -> HTMLResponse:
    """Show a page of a campaign's messages."""
    report, page = find_message_page(context, campaign_id, query)
    reasons_by_category = {
        category: [reason for reason in Reason if reason.category is category]
        for category in Category
    }
    return context.render_page(
        "web/messages.html",
        current_page="/",
        title=f"Messages of {report.campaign.name}",
        campaign=report.campaign,
        origin=report.origin,
        message_query=query,
        message_page=page,
        statuses=list(Status),
        reasons_by_category=reasons_by_category,
        engagements=list(Engagement),
        is_unmasked=context.can_show_contacts(query.contacts),
        can_show_contacts=context.settings.show_contacts,
        mask_email=mask_email,
        mask_mobile=mask_mobile,
    )


@router.get("/campaigns/{campaign_id:int}/messages/{number:int}")
def show_message(
    campaign_id: int, number: int, context: Context, contacts: str | None = None
) -> HTMLResponse:
    """Show the timeline of a message, and the verdicts of the checks."""
    with context.read_database() as connection:
        campaign = context.load_campaign(connection, campaign_id)
        timeline = read_timeline(connection, campaign, number)
    is_unmasked = context.can_show_contacts(contacts)
    verdicts = checks_error = None
    try:
        verdicts = explain_checks(context, campaign, number, is_unmasked=is_unmasked)
    except SendtraceError as error:  # this machine may lack plugins, or a rule ended its process
        checks_error = str(error)
    return context.render_page(
        "web/message.html",
        current_page="/",
        title=f"Message {number} of {campaign.name}",
        campaign=campaign,
        origin=timeline.origin,
        timeline=timeline,
        task_url=context.task_url,
        check_verdicts=verdicts,
        checks_error=checks_error,
        is_unmasked=is_unmasked,
        can_show_contacts=context.settings.show_contacts,
    )


@router.get("/operations")
def show_operations(context: Context) -> HTMLResponse:
    """Show stalled batches, workers and recent failures."""
    activity = context.read_worker_activity()
    snapshot = context.live.snapshot
    batches = snapshot.stalled.batches
    daily_rollup_at = snapshot.stalled.daily_rollup_at
    return context.render_page(
        "web/operations.html",
        current_page="/operations",
        title="Operations",
        stalled_batches=[(batch, to_datetime(batch.idle_since)) for batch in batches],
        daily_rollup_at=None if daily_rollup_at is None else to_datetime(daily_rollup_at),
        worker_activity=activity,
        unserved_queues=context.find_unserved_queues(activity),
        has_stale_stalled=snapshot.health is None or not snapshot.health.is_moving,
        task_url=context.task_url,
    )


@router.get("/standstill")
def redirect_to_operations() -> Response:
    """Redirect the former address of the operations page."""
    return RedirectResponse("/operations", 301)


@router.get("/api")
def show_api_reference(request: Request, context: Context) -> HTMLResponse:
    """Show the reference of the API."""
    schema = request.app.openapi()
    return context.render_page(
        "web/api_reference.html",
        current_page="/api",
        title="API",
        description=schema["info"]["description"],
        requests=list(list_requests(schema)),
        models={name: list_fields(model) for name, model in list_models(schema).items()},
        format_type=format_type_as_html,
    )
