"""The JSON API: what the pages show, for programs."""

from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from tracker.clock import to_datetime
from tracker.monitoring import FailedTask, WorkerInfo
from tracker.queries.messages import MessageRow, find_messages
from tracker.queries.report import Report
from tracker.queries.timeline import read_timeline
from tracker.web import figures
from tracker.web.context import WebContext
from tracker.web.live import Snapshot
from tracker.web.masking import mask_email, mask_mobile
from tracker.web.pages import check_page_start, find_report, opinions
from tracker.web.queries import MessageQuery

KEEP_ALIVE_SECONDS = 15.0
"""Seconds after which a stream says that it is still there: proxies close what is silent."""

CampaignId = Annotated[int, Path(description="The campaign's id, as in /api/campaigns.")]
MessageNumber = Annotated[
    int, Path(description="The message's number within its campaign, from 0.")
]
NOT_FOUND_RESPONSE: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no such campaign or message; `detail` says what there is."}
}


class CampaignModel(BaseModel):
    """A campaign and how far it is. Times are ISO 8601 in UTC."""

    id: int
    name: str
    run: int
    channel: str
    state: str = Field(description="running or finished")
    audience: int
    settled: int = Field(description="messages that need no more work")
    attention: list[str] = Field(description="what about it needs attention, in words")


class OverviewModel(BaseModel):
    """The latest campaigns, as of ``at``; ``trouble`` says why the numbers are old, if they are."""

    at: datetime | None
    trouble: str | None
    campaigns: list[CampaignModel]


class MessageModel(BaseModel):
    """A message. Contact data is masked unless it was asked for and may be shown."""

    number: int
    status: str
    reason: str | None
    attempt: int
    customer_id: str
    email: str | None
    mobile: str | None


class MessagesModel(BaseModel):
    """A page of messages. ``next`` is the ``after`` of the following page, null at the end; a page
    of what is rare may have fewer than ``limit``. ``total`` is null where nobody has counted."""

    total: int | None
    next: int | None
    messages: list[MessageModel]


class CheckVerdictModel(BaseModel):
    """What a check says of a message as things are now."""

    step: str
    check: str
    reason: str | None
    looked_at: dict[str, Any]
    error: str | None


class StalledBatchModel(BaseModel):
    """A batch that stands still, and the command that sends it on."""

    campaign: int
    name: str
    batch: int
    since: datetime = Field(description="by the clock of its run")
    seconds: float = Field(description="real seconds")
    waiting: dict[str, int] = Field(description="messages that need work, by status")
    step: str
    sent_on: int = Field(description="how often it was sent on since, without a sign of life")
    command: str | None


class WorkerModel(BaseModel):
    """A worker; ``is_there`` is false for one that went silent."""

    name: str
    heard_at: datetime
    is_there: bool
    queues: list[str]


class FailedTaskModel(BaseModel):
    """A task that failed lately; ``again``: it is tried once more."""

    task: str
    campaign: int | None
    batch: int | None
    error: str
    worker: str
    at: datetime
    task_id: str
    again: bool


class OperationsModel(BaseModel):
    """What stands still. ``workers`` and ``failed`` are null where nobody listens to them;
    ``deaf_since``: the broker is away."""

    batches: list[StalledBatchModel]
    workers: list[WorkerModel] | None
    failed: list[FailedTaskModel] | None
    unserved: list[str] = Field(description="queues without a worker")
    deaf_since: datetime | None


def make_api_router(desk: WebContext) -> APIRouter:
    """The API, made from what is at the ``desk``."""
    router = APIRouter(prefix="/api")
    get = partial(router.add_api_route, methods=["GET"])

    def campaigns() -> OverviewModel:
        """The latest campaigns, the latest first, and those that somebody looks at."""
        snapshot = desk.live.snapshot
        reports = [report for _, report in sorted(snapshot.reports.items())][::-1]
        return OverviewModel(
            at=snapshot.at,
            trouble=snapshot.trouble,
            campaigns=[_campaign_model(snapshot, report) for report in reports],
        )

    def campaign(campaign_id: CampaignId) -> CampaignModel:
        """How far a campaign is."""
        return _campaign_model(*find_report(desk, campaign_id))

    def report(campaign_id: CampaignId) -> dict[str, Any]:
        """The Live Monitoring Report, as `sendtrace report --format json` has it."""
        _, found = find_report(desk, campaign_id)
        return found.as_json()

    def messages(campaign_id: CampaignId, asked: Annotated[MessageQuery, Query()]) -> MessagesModel:
        """The messages behind a number of the report, in the order of their numbers."""
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
        shown = desk.can_show_contacts(asked.contacts)
        return MessagesModel(
            total=page.total,
            next=page.after,
            messages=[_message_model(each, contacts=shown) for each in page.messages],
        )

    def message(campaign_id: CampaignId, number: MessageNumber) -> dict[str, Any]:
        """The story of one message, as `sendtrace trace --format json` has it."""
        with desk.read() as connection:
            return read_timeline(
                connection, desk.campaign(connection, campaign_id), number
            ).as_json()

    def checks(
        campaign_id: CampaignId, number: MessageNumber, contacts: str | None = None
    ) -> list[CheckVerdictModel]:
        """What every check says of a message as things are now, and the values it looked at."""
        with desk.read() as connection:
            found = desk.campaign(connection, campaign_id)
            read_timeline(connection, found, number)
        shown = desk.can_show_contacts(contacts)
        said = opinions(desk, found, number, contacts=shown) or []
        return [
            CheckVerdictModel(
                step=each.step,
                check=each.check,
                reason=None if each.reason is None else each.reason.title,
                looked_at={name: _to_json_value(value) for name, value in looked_at.items()},
                error=each.error,
            )
            for each, looked_at in said
        ]

    def standstill() -> OperationsModel:
        """Batches without progress, workers that went silent, tasks that failed lately."""
        return _operations_model(desk)

    def queues() -> dict[str, dict[str, int]] | None:
        """How deep each queue is, ready and unacked; null where the broker does not say."""
        return figures.queues(desk.live.snapshot)

    async def events(
        followed: Annotated[int | None, Query(alias="campaign", description="Its id.")] = None,
    ) -> StreamingResponse:
        """Server-sent events: with a `campaign`, its numbers whenever they were read anew, once a
        second; without one, the overview."""
        if followed is not None:
            await run_sync(find_report, desk, followed)
        return StreamingResponse(
            _stream_events(desk, followed),
            media_type="text/event-stream",
            headers=NO_BUFFERING_HEADERS,
        )

    get("/campaigns", campaigns, summary="The campaigns", tags=["campaigns"])
    get(
        "/campaigns/{campaign_id}",
        campaign,
        summary="A campaign",
        tags=["campaigns"],
        responses=NOT_FOUND_RESPONSE,
    )
    get(
        "/campaigns/{campaign_id}/report",
        report,
        summary="The Live Monitoring Report",
        tags=["campaigns"],
        responses=NOT_FOUND_RESPONSE,
    )
    get(
        "/campaigns/{campaign_id}/messages",
        messages,
        summary="Messages behind a number",
        tags=["messages"],
        responses=NOT_FOUND_RESPONSE,
    )
    get(
        "/campaigns/{campaign_id}/messages/{number}",
        message,
        summary="The story of a message",
        tags=["messages"],
        responses=NOT_FOUND_RESPONSE,
    )
    get(
        "/campaigns/{campaign_id}/messages/{number}/checks",
        checks,
        summary="The checks explained",
        tags=["messages"],
        responses=NOT_FOUND_RESPONSE,
    )
    get("/standstill", standstill, summary="What stands still", tags=["operations"])
    get("/queues", queues, summary="The queues", tags=["operations"])
    get(
        "/events",
        events,
        summary="Numbers as they change",
        tags=["operations"],
        response_class=StreamingResponse,
    )
    return router


NO_BUFFERING_HEADERS = {"X-Accel-Buffering": "no"}
"""Has nginx pass a stream on at once."""


def _operations_model(desk: WebContext) -> OperationsModel:
    seen = None if desk.outside.presence is None else desk.outside.presence()
    command = desk.outside.help_batch
    return OperationsModel(
        batches=[
            StalledBatchModel(
                campaign=each.campaign.id,
                name=each.campaign.name,
                batch=each.batch,
                since=to_datetime(each.idle_since),
                seconds=each.idle_seconds,
                waiting={status.slug: count for status, count in each.pending_by_status.items()},
                step=each.step,
                sent_on=each.requeue_count,
                command=command and command(each.campaign.id, each.batch, each.step),
            )
            for each in desk.live.snapshot.standing
        ],
        workers=None if seen is None else [_worker_model(each) for each in seen.workers],
        failed=None if seen is None else [_failed_task_model(each) for each in seen.failed],
        unserved=desk.unserved(seen),
        deaf_since=None if seen is None else seen.disconnected_since,
    )


def _worker_model(worker: WorkerInfo) -> WorkerModel:
    return WorkerModel(
        name=worker.name,
        heard_at=worker.heard_at,
        is_there=worker.is_online,
        queues=list(worker.queues),
    )


def _failed_task_model(failure: FailedTask) -> FailedTaskModel:
    return FailedTaskModel(
        task=failure.task,
        campaign=failure.campaign,
        batch=failure.batch,
        error=failure.error,
        worker=failure.worker,
        at=failure.at,
        task_id=failure.task_id,
        again=failure.will_retry,
    )


def _campaign_model(snapshot: Snapshot, report: Report) -> CampaignModel:
    campaign = report.campaign
    its = figures.progress(snapshot, report)
    return CampaignModel(
        id=campaign.id,
        name=campaign.name,
        run=campaign.run_id,
        channel=campaign.channel,
        state=its.state,
        audience=report.audience,
        settled=report.settled,
        attention=list(its.attention),
    )


def _message_model(found: MessageRow, *, contacts: bool) -> MessageModel:
    email, mobile = found.email, found.mobile
    if not contacts:
        email, mobile = email and mask_email(email), mobile and mask_mobile(mobile)
    return MessageModel(
        number=found.number,
        status=found.status.slug,
        reason=None if found.reason is None else found.reason.slug,
        attempt=found.attempt,
        customer_id=found.customer_id,
        email=email,
        mobile=mobile,
    )


def _to_json_value(value: object) -> object:
    if isinstance(value, tuple | frozenset):
        return sorted(map(str, value))
    return value if isinstance(value, str | int | float | bool | None) else str(value)


async def _stream_events(desk: WebContext, campaign_id: int | None) -> AsyncIterator[str]:
    number, told = -1, ""
    while not desk.live.is_stopped:
        snapshot = await desk.live.wait_for_newer(number, KEEP_ALIVE_SECONDS)
        if snapshot.number <= number:
            yield ": still here\n\n"
            continue
        number = snapshot.number
        said = desk.bulletins.get(campaign_id)
        yield ": nothing new\n\n" if said == told else f"data: {said}\n\n"
        told = said
