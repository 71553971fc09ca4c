"""The addresses that containers and monitors ask: /health and /health/live.

Both answer from memory, so a part that hangs doesn't keep them from answering.
"""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from tracker.web.context import Context
from tracker.web.health.judge import Condition
from tracker.web.security import is_viewer

router = APIRouter(include_in_schema=False)


@router.api_route("/health/live", methods=["GET", "HEAD"])
async def check_alive() -> Response:
    """Respond with 200: this process answers."""
    return JSONResponse({"status": "ok"})


@router.api_route("/health", methods=["GET", "HEAD"])
async def check_health(request: Request, context: Context) -> Response:
    """Respond with the health of each part: 503 if one is down, else 200.

    Everybody gets the states. The summaries name hosts and campaigns, so they need the token.
    """
    health = context.live.judge_health()
    body = health.as_json(has_details=is_viewer(request, context.settings.token))
    return JSONResponse(body, 503 if health.condition is Condition.DOWN else 200)
