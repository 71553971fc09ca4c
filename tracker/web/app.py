"""The live page and its API, put together."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import Depends, FastAPI, Request
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response

from tracker.errors import NotFound, SendtraceError, UsageError
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.web.api import make_api_router
from tracker.web.context import WebContext, WebSection
from tracker.web.inbound import make_inbound_router
from tracker.web.live import LiveFeed
from tracker.web.metrics import METRICS_CONTENT_TYPE, render_metrics
from tracker.web.monitoring import Monitoring
from tracker.web.pages import make_page_router
from tracker.web.security import SecurityMiddleware, make_reporter_guard, make_viewer_guard

STATIC_FOLDER = Path(__file__).with_name("static")
STYLESHEET = Path(__file__).parent.parent / "templates" / "style.css"
"""The style of all pages: those that are one file have it in them."""

API_DESCRIPTION = """\
What `sendtrace` records, for programs. Where a token is set, it is given as a bearer token.

Times are ISO 8601 in UTC. Errors have a `detail`: 404 says what there is, 422 names the parameter.
"""


def make_app(
    database: Database, settings: Settings, outside: Monitoring, sections: Sequence[WebSection] = ()
) -> FastAPI:
    """The live page on the record in ``database``, with what is there ``outside`` of it."""
    live = LiveFeed(database, outside)
    desk = WebContext(
        database=database, settings=settings, outside=outside, live=live, sections=sections
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await live.look()
        following = asyncio.create_task(live.run())
        try:
            yield
        finally:
            # To cancel it would leave a connection behind, in the middle of a question.
            live.stop()
            await following

    app = FastAPI(
        title="sendtrace",
        description=API_DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # with the token only: see below
        docs_url=None,  # they load their program from another host
        redoc_url=None,
    )
    app.state.live = live
    app.add_middleware(SecurityMiddleware, is_anonymous_allowed=settings.token is None)
    app.add_api_route(
        "/static/style.css", lambda: FileResponse(STYLESHEET), include_in_schema=False
    )
    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    app.add_api_route("/health", _health_endpoint(database), include_in_schema=False)
    guarded = [Depends(make_viewer_guard(settings.token))]
    app.include_router(make_page_router(desk), dependencies=guarded)
    app.include_router(make_api_router(desk), dependencies=guarded)
    app.add_api_route(
        "/metrics", _metrics_endpoint(desk), include_in_schema=False, dependencies=guarded
    )
    app.include_router(make_inbound_router(desk, make_reporter_guard(settings.token)))
    for section in sections:
        app.include_router(section.make_router(desk), dependencies=guarded)
    app.add_api_route(
        "/api/openapi.json", app.openapi, include_in_schema=False, dependencies=guarded
    )
    app.add_api_route(
        "/api", _reference_endpoint(app, desk), include_in_schema=False, dependencies=guarded
    )
    _add_error_handlers(app, desk)
    return app


def _health_endpoint(database: Database) -> Any:
    def health() -> Response:
        try:
            with database.engine.connect() as connection:
                connection.execute(sa.text("SELECT 1"))
        except (SQLAlchemyError, OSError):
            return JSONResponse({"status": "the database is away"}, 503)
        return JSONResponse({"status": "ok"})

    return health


def _metrics_endpoint(desk: WebContext) -> Any:
    def metrics() -> Response:
        return Response(render_metrics(desk), media_type=METRICS_CONTENT_TYPE)

    return metrics


def _reference_endpoint(app: FastAPI, desk: WebContext) -> Any:
    def reference() -> Response:
        return desk.page("web/reference.html", title="API", schema=app.openapi())

    return reference


def _add_error_handlers(app: FastAPI, desk: WebContext) -> None:
    """Have programs told in JSON, and people on a page, what is wrong."""

    def told(request: Request, status: int, heading: str, problems: list[str]) -> Response:
        if request.url.path.startswith("/api"):
            return JSONResponse({"detail": "; ".join(problems)}, status)
        return desk.page(
            "web/wrong.html", status, title=heading, problems=problems, again=status == 503
        )

    async def not_found(request: Request, error: NotFound) -> Response:
        return told(request, 404, "Not there", [str(error)])

    async def broken(request: Request, error: SendtraceError) -> Response:
        return told(request, 500, "Something is wrong with the record", [str(error)])

    async def unusable(request: Request, error: UsageError) -> Response:
        return told(request, 422, "That can't be asked", [str(error)])

    async def away(request: Request, error: SQLAlchemyError) -> Response:
        cause = desk.database.summarize_error(error)
        return told(request, 503, "The database is away", [cause, "This page comes back by itself"])

    async def invalid(request: Request, error: RequestValidationError) -> Response:
        if request.url.path.startswith("/api"):
            return await request_validation_exception_handler(request, error)
        problems = [
            f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()
        ]
        return told(request, 422, "That can't be asked", problems)

    async def refused(request: Request, error: HTTPException) -> Response:
        if request.url.path.startswith("/api") or error.status_code == 401:
            return await http_exception_handler(request, error)
        return told(request, error.status_code, str(error.detail), ["See the campaigns."])

    app.add_exception_handler(NotFound, not_found)  # type: ignore[arg-type]  # it wants one for any
    app.add_exception_handler(UsageError, unusable)  # type: ignore[arg-type]
    app.add_exception_handler(SendtraceError, broken)  # type: ignore[arg-type]
    app.add_exception_handler(SQLAlchemyError, away)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, refused)  # type: ignore[arg-type]
