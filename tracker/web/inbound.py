"""The doors in: gateways report what became of messages, and what recipients did with them.

What is reported is kept in the database and applied by the workers' steps, as all else is.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Annotated, Any, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from tracker.clock import from_datetime
from tracker.queries.timeline import MAX_NUMBER
from tracker.record.catalog import find_latest_campaign_ids, load_campaigns
from tracker.record.due import DueKind
from tracker.record.engagement import EngagementEvent
from tracker.record.inbound import ReportItem, StoredReports, store_reports
from tracker.record.receipts import MAX_BIGINT, MAX_DETAIL_LENGTH, Receipt
from tracker.status import Engagement, Status
from tracker.web.context import MAX_NAMED_CAMPAIGNS, WebContext
from tracker.web.monitoring import NotifyWorkers
from tracker.web.security import AccessGuard

MAX_REPORT_ITEMS = 10_000
"""Items of one report."""

MAX_REPORT_BYTES = 4_000_000
"""Bytes of one report."""

REPORTS_PER_SECOND, REPORT_BURST = 50, 100
"""Reports a second that are taken, and at once: a million items in two seconds is a lot."""

MAX_REPORTED_PROBLEMS = 20
"""Problems of a report that are told; who made one such report has made them all."""


class _InboundItem(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    campaign: int = Field(ge=1, le=MAX_NUMBER, description="the campaign's id")
    number: int = Field(ge=0, le=MAX_BIGINT, description="the message's number in its campaign")
    at: Annotated[AwareDatetime, Field(strict=False)] = Field(
        description="when it happened, ISO 8601 with a zone, by the clock of the campaign's run"
    )


class ReceiptIn(_InboundItem):
    """What became of an attempt at a message."""

    attempt: int = Field(ge=1, le=MAX_BIGINT, description="as the gateway was given it")
    status: Literal["delivered", "hard_bounced", "soft_bounced", "not_delivered"]
    detail: str | None = Field(
        None, max_length=10 * MAX_DETAIL_LENGTH, description="what else was said, such as 5.1.1"
    )

    def to_item(self) -> Receipt:
        status = Status[self.status.upper()]
        at = from_datetime(self.at)
        return Receipt(
            self.number, self.attempt, int(status), at, 0, _strip_unstorable(self.detail)
        )


class EngagementIn(_InboundItem):
    """What a recipient did with a message that had arrived."""

    kind: Literal["opened", "clicked", "spam", "unsubscribed"]

    def to_item(self) -> EngagementEvent:
        return EngagementEvent(self.number, Engagement[self.kind.upper()], from_datetime(self.at))


class InboundResult(BaseModel):
    """How many items were taken, of how many batches. ``queued``: whether workers have been told;
    if the broker is away they find the report when they next look at its batches."""

    taken: int
    batches: int
    queued: bool


class RateLimiter:
    """So many calls a second, and no more than a burst at once."""

    def __init__(
        self, rate: float, burst: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._now = rate, burst, now
        self._tokens, self._refilled_at = burst, now()
        self._lock = Lock()

    def take(self) -> float:
        """Take one; how many seconds to wait if there is none, else 0."""
        with self._lock:
            now = self._now()
            self._tokens = min(self._burst, self._tokens + (now - self._refilled_at) * self._rate)
            self._refilled_at = now
            if self._tokens >= 1:
                self._tokens -= 1
                return 0.0
            return (1 - self._tokens) / self._rate


INBOUND_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "A bearer token is needed."},
    413: {
        "description": f"More than {MAX_REPORT_ITEMS:,} items, or than {MAX_REPORT_BYTES:,} bytes."
    },
    415: {"description": "Something else than application/json."},
    422: {"description": "An item can't be read, or its campaign is not known; nothing is taken."},
    429: {
        "description": f"More than {REPORTS_PER_SECOND} reports a second; Retry-After says when."
    },
}


def make_inbound_router(desk: WebContext, guard: AccessGuard) -> APIRouter:
    """The doors in, for those whom ``guard`` lets pass."""
    router = APIRouter(prefix="/api", dependencies=[Depends(guard)], tags=["doors in"])
    allowance = RateLimiter(REPORTS_PER_SECOND, REPORT_BURST)

    def door(
        path: str, model: type[ReceiptIn] | type[EngagementIn], what: DueKind, summary: str
    ) -> None:
        adapter = TypeAdapter(list[model])  # type: ignore[valid-type]  # it is one of two classes

        async def take(request: Request) -> InboundResult:
            wait = allowance.take()
            if wait:
                retry = {"Retry-After": str(int(wait) + 1)}
                raise HTTPException(429, "too many reports at once", retry)
            body = await _read_body(request)
            return await run_sync(_store_report, desk, adapter, body, what)

        take.__doc__ = model.__doc__
        schema = adapter.json_schema(ref_template="#/components/schemas/{model}")
        items = {**schema, "minItems": 1, "maxItems": MAX_REPORT_ITEMS}
        body = {"required": True, "content": {"application/json": {"schema": items}}}
        router.add_api_route(
            path,
            take,
            methods=["POST"],
            status_code=202,
            summary=summary,
            description=f"{model.__doc__} A list of 1 to {MAX_REPORT_ITEMS:,}; reporting the same twice"
            " changes nothing. It is applied by the workers, a moment later.",
            responses=INBOUND_RESPONSES,
            openapi_extra={"requestBody": body},
        )

    door("/receipts", ReceiptIn, DueKind.RECEIPTS, "Report what became of messages")
    door("/engagement", EngagementIn, DueKind.ENGAGEMENT, "Report what recipients did")
    return router


async def _read_body(request: Request) -> bytes:
    """What was sent, as far as it is JSON and not too large: it is not read any further."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "expected application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_REPORT_BYTES:
            raise HTTPException(413, f"expected {MAX_REPORT_BYTES:,} bytes at most")
    return bytes(body)


def _store_report(
    desk: WebContext, adapter: TypeAdapter[Any], body: bytes, what: DueKind
) -> InboundResult:
    try:
        read = adapter.validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(_problem_details(error)) from None
    if len(read) > MAX_REPORT_ITEMS:
        raise HTTPException(413, f"expected {MAX_REPORT_ITEMS:,} items at most")
    if not read:
        raise _validation_error(["body"], "expected one item at least")
    reported: defaultdict[int, list[ReportItem]] = defaultdict(list)
    for each in read:
        reported[each.campaign].append(each.to_item())
    with desk.read() as connection:
        known = load_campaigns(connection, sorted(reported))
        unknown = reported.keys() - {campaign.id for campaign in known}
        if unknown:
            there = load_campaigns(
                connection, find_latest_campaign_ids(connection, MAX_NAMED_CAMPAIGNS)
            )
            place = next(n for n, each in enumerate(read) if each.campaign in unknown)
            named = ", ".join(f"{each.id} ({each.name})" for each in there) or "none"
            raise _validation_error(
                ["body", place, "campaign"],
                f"there is no campaign {read[place].campaign}; the latest are {named}",
            )
    stored = store_reports(desk.database, what, reported, known)
    return InboundResult(
        taken=len(read),
        batches=len(stored.busy_batches) + len(stored.idle_batches),
        queued=_notify_workers(desk.outside.remind, stored, what),
    )


def _notify_workers(remind: NotifyWorkers | None, stored: StoredReports, what: DueKind) -> bool:
    """Tell the workers of what was stored, as far as the broker is there."""
    if remind is None:
        return False
    try:
        for key in stored.idle_batches:
            remind(*key, what, alone=False)
        for key in stored.busy_batches:
            remind(*key, what, alone=True)
    except Exception:  # whatever the broker's library raises: it is away
        return False
    return True


def _strip_unstorable(text: str | None) -> str | None:
    """A text that every database can hold."""
    return text and text.replace("\0", "").encode(errors="replace").decode()


def _problem_details(error: ValidationError) -> list[dict[str, Any]]:
    return [
        {"type": each["type"], "loc": ("body", *each["loc"]), "msg": each["msg"]}
        for each in error.errors(include_url=False, include_input=False, include_context=False)[
            :MAX_REPORTED_PROBLEMS
        ]
    ]


def _validation_error(place: Sequence[str | int], told: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": tuple(place), "msg": told}])
