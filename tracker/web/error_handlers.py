"""Responses for errors: JSON for the API, a page for a browser."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from tracker.errors import NotFound, SendtraceError, UsageError
from tracker.web.context import WebContext

API_PREFIX = "/api"

ErrorHandler = Callable[[Request, Any], Coroutine[Any, Any, Response]]


async def handle_sendtrace_error(request: Request, error: SendtraceError) -> Response:
    """Respond to an unknown name or number, a request that makes no sense, or a damaged record."""
    match error:
        case NotFound():
            status, heading = 404, "Not found"
        case UsageError():
            status, heading = 422, "Invalid request"
        case _:
            status, heading = 500, "Unreadable record"
    return _error_response(request, status, heading, [str(error)])


async def handle_database_error(request: Request, error: SQLAlchemyError) -> Response:
    """Respond while the database is unavailable. The page reloads until it is available again."""
    context: WebContext = request.app.state.context
    problems = [
        context.database.summarize_error(error),
        "This page reloads until the database is available.",
    ]
    return _error_response(request, 503, "Database unavailable", problems, should_reload=True)


async def handle_validation_error(request: Request, error: RequestValidationError) -> Response:
    """Respond to an invalid parameter."""
    if request.url.path.startswith(API_PREFIX):
        return await request_validation_exception_handler(request, error)
    problems = [
        f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}" for problem in error.errors()
    ]
    return _error_response(request, 422, "Invalid request", problems)


async def handle_http_error(request: Request, error: HTTPException) -> Response:
    """Respond to an unknown address or a missing token."""
    if request.url.path.startswith(API_PREFIX) or error.status_code == 401:
        return await http_exception_handler(request, error)
    return _error_response(request, error.status_code, str(error.detail), [])


ERROR_HANDLERS: dict[int | type[Exception], ErrorHandler] = {
    SendtraceError: handle_sendtrace_error,
    SQLAlchemyError: handle_database_error,
    RequestValidationError: handle_validation_error,
    HTTPException: handle_http_error,
}
"""The handler of each error; that of the nearest class applies."""


def _error_response(
    request: Request,
    status: int,
    heading: str,
    problems: Sequence[str],
    *,
    should_reload: bool = False,
) -> Response:
    if request.url.path.startswith(API_PREFIX):
        return JSONResponse({"detail": "; ".join(problems)}, status)
    context: WebContext = request.app.state.context
    return context.render_page(
        "web/error.html", status, title=heading, problems=problems, should_reload=should_reload
    )
