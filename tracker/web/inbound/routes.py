"""The inbound API: gateways report receipts, engagement and bounce messages.

The reports are stored in the database; the workers' steps apply them. An item that can't be used is
refused; the others are stored.
"""

import time
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from tracker.web.context import Context, WebContext
from tracker.web.inbound.bounces import store_bounce
from tracker.web.inbound.items import EngagementIn, ItemType, ReceiptIn
from tracker.web.inbound.reports import MAX_REPORT_ITEMS, InboundResult, store_report

MAX_REPORT_BYTES, MAX_BOUNCE_BYTES = 4_000_000, 1_000_000

MEDIA_TYPES = ("application/json", "text/plain")
"""Media types of a report; some providers send JSON as text."""

INBOUND_RESPONSES: dict[int | str, dict[str, Any]] = {
    207: {
        "model": InboundResult,
        "description": "Some items are refused, each with its place and cause in `refused`; the"
        " others are stored.",
    },
    401: {"description": "Missing or wrong bearer token."},
    413: {
        "description": f"More than {MAX_REPORT_ITEMS:,} items, or than {MAX_REPORT_BYTES:,} bytes."
    },
    415: {"description": f"Neither {' nor '.join(MEDIA_TYPES)}."},
    422: {
        "description": "No item can be used, or one can't and `strict=1` is set; nothing is stored."
        " `detail` has the place and cause of each."
    },
    429: {
        "description": "More reports a second than `SENDTRACE_REPORTS_PER_SECOND`; see"
        " `Retry-After`."
    },
}

BOUNCE_RESPONSES: dict[int | str, dict[str, Any]] = {
    **{code: INBOUND_RESPONSES[code] for code in (401, 429)},
    404: {"description": "The campaign has no such message."},
    413: {"description": f"More than {MAX_BOUNCE_BYTES:,} bytes."},
    422: {"description": "Not a bounce message, or not about an email on record."},
}


class RateLimiter:
    """A token bucket: a rate of calls per second, and those of two seconds at once. Thread-safe."""

    def __init__(self, rate: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._now = rate, max(1.0, 2 * rate), now
        self._tokens, self._refilled_at = self._burst, now()
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


def _request_body(item_type: ItemType) -> dict[str, Any]:
    """Return the OpenAPI description of a body that the route reads and validates itself."""
    # The item is described in place: FastAPI adds no objects for a body that it doesn't read.
    item = item_type.model_json_schema()
    schema = {"type": "array", "items": item, "minItems": 1, "maxItems": MAX_REPORT_ITEMS}
    content = {media_type: {"schema": schema} for media_type in MEDIA_TYPES}
    return {"requestBody": {"required": True, "content": content}}


Strict = Annotated[bool, Query(description="Store all items, or none if one can't be used.")]


@router.post(
    "/receipts",
    status_code=202,
    summary="Report receipts",
    responses=INBOUND_RESPONSES,
    openapi_extra=_request_body(ReceiptIn),
    operation_id="take_api_receipts_post",
)
async def report_receipts(
    request: Request, response: Response, context: Context, strict: Strict = False
) -> InboundResult:
    """Store a list of receipts, which the workers apply a moment later."""
    return await _accept_report(request, response, context, ReceiptIn, strict)


@router.post(
    "/engagement",
    status_code=202,
    summary="Report engagement",
    responses=INBOUND_RESPONSES,
    openapi_extra=_request_body(EngagementIn),
    operation_id="take_api_engagement_post",
)
async def report_engagement(
    request: Request, response: Response, context: Context, strict: Strict = False
) -> InboundResult:
    """Store a list of engagement events, which the workers apply a moment later.

    Unsubscribes and spam marks keep the customer from further messages at once.
    """
    return await _accept_report(request, response, context, EngagementIn, strict)


@router.post(
    "/bounces",
    status_code=202,
    summary="Report a bounce message",
    responses=BOUNCE_RESPONSES,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"message/rfc822": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def report_bounce(request: Request, context: Context) -> InboundResult:
    """Store the outcome in a raw bounce message (RFC 3464) about an email that sendtrace sent.

    The body is the message as it arrived, whatever its content type, at most 1 MB. The message is
    recognized by the Message-ID in the returned headers. A notification that a delivery is delayed
    changes nothing (`"taken": 0`).
    """
    body = await _read_bytes(request, MAX_BOUNCE_BYTES)
    return await run_sync(store_bounce, context, body)


async def _accept_report(
    request: Request, response: Response, context: WebContext, item_type: ItemType, strict: bool
) -> InboundResult:
    body = await _read_body(request)
    result = await run_sync(partial(store_report, context, item_type, body, is_strict=strict))
    if result.refused:
        response.status_code = 207
    return result


async def _read_body(request: Request) -> bytes:
    """Return a request's body, or refuse one that isn't JSON or is too large without reading on."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise HTTPException(415, f"expected {' or '.join(MEDIA_TYPES)}")
    return await _read_bytes(request, MAX_REPORT_BYTES)


async def _read_bytes(request: Request, limit: int) -> bytes:
    """Return a request's body, or refuse one that is too large without reading on."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, f"expected at most {limit:,} bytes")
    return bytes(body)
