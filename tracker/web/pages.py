"""The pages that people look at."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from sqlalchemy import Connection
from starlette.responses import HTMLResponse

from tracker.clock import to_datetime
from tracker.output.report_lines import all_report_lines, balance_line, is_reason
from tracker.queries.messages import find_messages
from tracker.queries.report import Report, make_reports
from tracker.queries.timeline import read_timeline
from tracker.record.catalog import Campaign
from tracker.status import Category, Engagement, Reason, Status
from tracker.web import figures
from tracker.web.context import WebContext
from tracker.web.live import Snapshot
from tracker.web.masking import mask_contacts, mask_email, mask_mobile
from tracker.web.queries import LINE_QUERIES, MessageQuery

MessageQueryParameter = Annotated[MessageQuery, Query()]


def make_page_router(desk: WebContext) -> APIRouter:
    """The pages, made from what is at the ``desk``."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    add = partial(router.add_api_route, methods=["GET"])

    def overview() -> HTMLResponse:
        snapshot = desk.live.snapshot
        shown = [figures.progress(snapshot, each) for _, each in sorted(snapshot.reports.items())]
        return desk.page("web/campaigns.html", title="Campaigns", campaigns=shown[::-1])

    def campaign(campaign_id: int) -> HTMLResponse:
        snapshot, report = find_report(desk, campaign_id)
        lines = list(all_report_lines(report, desk.settings.zone))
        return desk.page(
            "web/campaign.html",
            title=report.campaign.name,
            progress=figures.progress(snapshot, report),
            report=report,
            counts={line.path: line.count for line in lines},
            lines=lines,
            is_reason=is_reason,
            balance=balance_line(report),
            questions=LINE_QUERIES,
            categories=list(Category),
            throughput=figures.throughput(desk.live.moments(campaign_id)),
            queues=figures.queues(snapshot),
        )

    def charts(campaign_id: int) -> HTMLResponse:
        return HTMLResponse(_render_charts(desk, campaign_id))

    def messages(campaign_id: int, asked: MessageQueryParameter) -> HTMLResponse:
        with desk.read() as connection:
            found = desk.campaign(connection, campaign_id)
            check_page_start(connection, found, asked)
            page = find_messages(
                desk.database,
                connection,
                found,
                asked.to_filter(),
                after=asked.after,
                most=asked.limit,
            )
        return desk.page(
            "web/messages.html",
            title=f"Messages of {found.name}",
            campaign=found,
            asked=asked,
            page=page,
            statuses=list(Status),
            categories={
                category: [each for each in Reason if each.category is category]
                for category in Category
            },
            engagements=list(Engagement),
            contacts=desk.can_show_contacts(asked.contacts),
            may_show=desk.settings.show_contacts,
            mask_email=mask_email,
            mask_mobile=mask_mobile,
        )

    def message(campaign_id: int, number: int, contacts: str | None = None) -> HTMLResponse:
        with desk.read() as connection:
            found = desk.campaign(connection, campaign_id)
            story = read_timeline(connection, found, number)
        shown = desk.can_show_contacts(contacts)
        return desk.page(
            "web/message.html",
            title=f"Message {number} of {found.name}",
            campaign=found,
            story=story,
            address=desk.task_url,
            opinions=opinions(desk, found, number, contacts=shown),
            contacts=shown,
            may_show=desk.settings.show_contacts,
        )

    def standstill() -> HTMLResponse:
        seen = desk.outside.presence() if desk.outside.presence is not None else None
        return desk.page(
            "web/standstill.html",
            title="What stands still",
            standing=[(each, to_datetime(each.idle_since)) for each in desk.live.snapshot.standing],
            presence=seen,
            unserved=desk.unserved(seen),
            help_batch=desk.outside.help_batch,
            help_queue=desk.outside.help_queue,
            address=desk.task_url,
        )

    add("/", overview)
    add("/standstill", standstill)
    add("/campaigns/{campaign_id:int}", campaign)
    add("/campaigns/{campaign_id:int}/charts", charts)
    add("/campaigns/{campaign_id:int}/messages", messages)
    add("/campaigns/{campaign_id:int}/messages/{number:int}", message)
    return router


def find_report(desk: WebContext, campaign_id: int) -> tuple[Snapshot, Report]:
    """The latest report of a campaign. One that is followed needs no look at the database."""
    snapshot = desk.live.snapshot
    report = snapshot.reports.get(campaign_id)
    if report is None:
        with desk.read() as connection:
            [report] = make_reports(connection, [desk.campaign(connection, campaign_id)])
        desk.live.pin(campaign_id)
    return snapshot, report


def check_page_start(connection: Connection, campaign: Campaign, asked: MessageQuery) -> None:
    """Raise the error of a wrong parameter for a page behind the last message."""
    [report] = make_reports(connection, [campaign])
    if asked.after >= report.audience and asked.after > 0:
        raise RequestValidationError(
            [
                {
                    "type": "less_than",
                    "loc": ("query", "after"),
                    "msg": f"is behind the last message: the campaign has {report.audience:,}",
                    "input": asked.after,
                }
            ]
        )


def opinions(desk: WebContext, campaign: Campaign, number: int, *, contacts: bool) -> Any:
    """What every check says of a message, None where nobody can be asked."""
    if desk.outside.explain is None:
        return None
    said = desk.outside.explain(campaign, number)
    return [(each, each.looked_at if contacts else mask_contacts(each.looked_at)) for each in said]


def _render_charts(desk: WebContext, campaign_id: int) -> str:
    find_report(desk, campaign_id)

    def draw() -> str:
        moments, waiting = desk.live.moments(campaign_id), tuple(desk.live.waiting)
        return desk.render("web/charts.html", charts=figures.charts(moments, waiting))

    return desk.drawings.get(campaign_id, draw)
