"""The inbound API: gateways report receipts and engagement.

The reports are stored in the database; the workers' steps apply them.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from threading import Lock
from typing import Annotated, Any, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy import Connection

from tracker.clock import from_datetime
from tracker.queries.next_step import find_settled_batches
from tracker.record.catalog import BatchKey, Campaign, load_campaigns
from tracker.record.details import MAX_DETAIL_LENGTH
from tracker.record.due import DueKind
from tracker.record.engagement import EngagementEvent
from tracker.record.inbound import ReportItem, group_by_batch, store_reports
from tracker.record.receipts import MAX_BIGINT, Receipt
from tracker.status import Engagement, Status
from tracker.store.schema.integers import MAX_INTEGER
from tracker.web.context import Context, WebContext, describe_latest_campaigns
from tracker.web.monitoring import NotifyWorkers

MAX_REPORT_ITEMS = 10_000

MAX_REPORT_BYTES = 4_000_000

REPORTS_PER_SECOND, REPORT_BURST = 50, 100
"""Reports accepted per second, and at once. A burst of full reports is a million items."""

MAX_REPORTED_PROBLEMS = 20

INBOUND_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Missing or wrong bearer token."},
    413: {
        "description": f"More than {MAX_REPORT_ITEMS:,} items, or than {MAX_REPORT_BYTES:,} bytes."
    },
    415: {"description": "Not application/json."},
    422: {"description": "An item is invalid or its campaign unknown; nothing is stored."},
    429: {"description": f"More than {REPORTS_PER_SECOND} reports a second; see `Retry-After`."},
}


class _InboundItem(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    campaign: int = Field(ge=1, le=MAX_INTEGER, description="the campaign's id")
    number: int = Field(ge=0, le=MAX_BIGINT, description="the message's number in its campaign")
    at: Annotated[AwareDatetime, Field(strict=False)] = Field(
        description="time of the event, ISO 8601 with a zone, by the clock of the campaign's run"
    )


class ReceiptIn(_InboundItem):
    """The outcome of an attempt at a message."""

    attempt: int = Field(ge=1, le=MAX_BIGINT, description="the attempt that the gateway was given")
    status: Literal["delivered", "hard_bounced", "soft_bounced", "not_delivered"] = Field(
        description="outcome of the attempt"
    )
    detail: str | None = Field(
        None, max_length=10 * MAX_DETAIL_LENGTH, description="a code or text, such as 5.1.1"
    )

    def to_item(self) -> Receipt:
        """Return the receipt as it is stored."""
        status = Status[self.status.upper()]
        at = from_datetime(self.at)
        return Receipt(self.number, self.attempt, int(status), at, detail=self.detail)


class EngagementIn(_InboundItem):
    """An action of the recipient of a delivered message."""

    kind: Literal["opened", "clicked", "spam", "unsubscribed"] = Field(
        description="action of the recipient"
    )

    def to_item(self) -> EngagementEvent:
        """Return the event as it is stored."""
        return EngagementEvent(self.number, Engagement[self.kind.upper()], from_datetime(self.at))


InboundItem = ReceiptIn | EngagementIn
ItemList = TypeAdapter[list[ReceiptIn]] | TypeAdapter[list[EngagementIn]]

RECEIPT_LIST = TypeAdapter(list[ReceiptIn])
ENGAGEMENT_LIST = TypeAdapter(list[EngagementIn])


class InboundResult(BaseModel):
    """The result of a report."""

    taken: int = Field(description="items that were stored")
    batches: int = Field(description="batches that the items belong to")
    queued: bool = Field(description="whether the tasks that apply the items were enqueued")


class RateLimiter:
    """A token bucket: a rate of calls per second, and a burst. Thread-safe."""

    def __init__(
        self, rate: float, burst: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._now = rate, burst, now
        self._tokens, self._refilled_at = burst, now()
        self._lock = Lock()

    def acquire(self) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        with self._lock:
            now = self._now()
            self._tokens = min(self._burst, self._tokens + (now - self._refilled_at) * self._rate)
            self._refilled_at = now
            if self._tokens >= 1:
                self._tokens -= 1
                return 0.0
            return (1 - self._tokens) / self._rate


async def limit_rate(request: Request) -> None:
    """Refuse a request beyond the rate limit with 429."""
    limiter: RateLimiter = request.app.state.inbound_limiter
    wait_seconds = limiter.acquire()
    if wait_seconds:
        raise HTTPException(
            429, "too many reports; retry later", {"Retry-After": str(int(wait_seconds) + 1)}
        )


router = APIRouter(prefix="/api", tags=["inbound"], dependencies=[Depends(limit_rate)])


def _request_body(items: ItemList) -> dict[str, Any]:
    """Return the OpenAPI description of a body that the route reads and validates itself."""
    schema = items.json_schema(ref_template="#/components/schemas/{model}")
    schema |= {"minItems": 1, "maxItems": MAX_REPORT_ITEMS}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post(
    "/receipts",
    status_code=202,
    summary="Report receipts",
    responses=INBOUND_RESPONSES,
    openapi_extra=_request_body(RECEIPT_LIST),
    operation_id="take_api_receipts_post",
)
async def report_receipts(request: Request, context: Context) -> InboundResult:
    """Store a list of receipts, which the workers apply a moment later."""
    body = await _read_body(request)
    return await run_sync(_store_report, context, RECEIPT_LIST, body, DueKind.RECEIPTS)


@router.post(
    "/engagement",
    status_code=202,
    summary="Report engagement",
    responses=INBOUND_RESPONSES,
    openapi_extra=_request_body(ENGAGEMENT_LIST),
    operation_id="take_api_engagement_post",
)
async def report_engagement(request: Request, context: Context) -> InboundResult:
    """Store a list of engagement events, which the workers apply a moment later."""
    body = await _read_body(request)
    return await run_sync(_store_report, context, ENGAGEMENT_LIST, body, DueKind.ENGAGEMENT)


async def _read_body(request: Request) -> bytes:
    """Return a request's body, or refuse one that isn't JSON or is too large without reading on."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "expected application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_REPORT_BYTES:
            raise HTTPException(413, f"expected at most {MAX_REPORT_BYTES:,} bytes")
    return bytes(body)


def _store_report(
    context: WebContext, item_list: ItemList, body: bytes, kind: DueKind
) -> InboundResult:
    items = _parse_items(item_list, body)
    items_by_campaign: defaultdict[int, list[ReportItem]] = defaultdict(list)
    for item in items:
        items_by_campaign[item.campaign].append(item.to_item())
    with context.database.read() as connection:
        campaigns = load_campaigns(connection, sorted(items_by_campaign))
        _check_campaigns(connection, items, campaigns)
        items_by_batch = group_by_batch(connection, campaigns, items_by_campaign)
    with context.database.write() as connection:
        settled = find_settled_batches(connection, items_by_batch)
        store_reports(connection, kind, campaigns, items_by_batch)
    notify = context.monitoring.notify_workers
    return InboundResult(
        taken=len(items),
        batches=len(items_by_batch),
        queued=_notify_workers(notify, items_by_batch, settled, kind),
    )


def _parse_items(item_list: ItemList, body: bytes) -> Sequence[InboundItem]:
    try:
        items = item_list.validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(_problem_details(error)) from None
    if len(items) > MAX_REPORT_ITEMS:
        raise HTTPException(413, f"expected at most {MAX_REPORT_ITEMS:,} items")
    if not items:
        raise _validation_error(["body"], "expected at least one item")
    return items


def _check_campaigns(
    connection: Connection, items: Sequence[InboundItem], campaigns: Sequence[Campaign]
) -> None:
    existing_ids = {campaign.id for campaign in campaigns}
    for place, item in enumerate(items):
        if item.campaign not in existing_ids:
            raise _validation_error(
                ["body", place, "campaign"],
                f"unknown campaign {item.campaign}; {describe_latest_campaigns(connection)}",
            )


def _notify_workers(
    notify: NotifyWorkers | None,
    keys: Collection[BatchKey],
    settled: Collection[BatchKey],
    kind: DueKind,
) -> bool:
    """Enqueue the tasks that apply stored reports; return False if the broker is unavailable."""
    if notify is None:
        return False
    try:
        for key in sorted(keys):
            notify(*key, kind, is_one_off=key not in settled)
    except Exception:  # the broker's client raises errors of several libraries
        return False
    return True


def _problem_details(error: ValidationError) -> list[dict[str, Any]]:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        {"type": problem["type"], "loc": ("body", *problem["loc"]), "msg": problem["msg"]}
        for problem in problems[:MAX_REPORTED_PROBLEMS]
    ]


def _validation_error(place: Sequence[str | int], message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": tuple(place), "msg": message}])
