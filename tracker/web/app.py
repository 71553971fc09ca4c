"""The application: routes, guards, middleware and the life of the live feed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse

from tracker.settings import Settings
from tracker.store.database import Database
from tracker.web import api, pages
from tracker.web.actions import api as actions
from tracker.web.actions import pages as action_pages
from tracker.web.context import WebContext, WebSection
from tracker.web.error_handlers import ERROR_HANDLERS
from tracker.web.health import routes as health
from tracker.web.health.watch import HealthWatch
from tracker.web.inbound import routes as inbound
from tracker.web.inbound.routes import RateLimiter
from tracker.web.late_database import LateDatabaseMiddleware
from tracker.web.live import LiveFeed
from tracker.web.metrics import routes as metrics
from tracker.web.monitoring import Monitoring
from tracker.web.security import SecurityMiddleware, require_bearer, require_viewer

STATIC_FOLDER = Path(__file__).with_name("static")
STYLESHEET = Path(__file__).parent.parent / "templates" / "style.css"
"""The style of all pages. The self-contained pages include it; the live page links to it."""

API_DESCRIPTION = """\
The record of `sendtrace` as JSON. Where a token is set, send it as a bearer token.

Times are ISO 8601 in UTC. Errors have a `detail`: for 404 it names what exists, for 422 the invalid
parameter.
"""

public_router = APIRouter(include_in_schema=False)
"""Routes without a guard: nothing of the record is behind them."""


@public_router.get("/static/style.css")
def get_stylesheet() -> FileResponse:
    """Return the style of all pages."""
    return FileResponse(STYLESHEET)


@asynccontextmanager
async def _run_live_feed(app: FastAPI) -> AsyncIterator[None]:
    context: WebContext = app.state.context
    await run_sync(context.health_watch.start)
    await context.live.refresh()
    feed = asyncio.create_task(context.live.run())
    try:
        yield
    finally:
        # Cancelling the task would leave a database connection in the middle of a query.
        context.live.stop()
        await feed
        await run_sync(context.health_watch.stop)


def make_app(
    database: Database,
    settings: Settings,
    monitoring: Monitoring,
    sections: Sequence[WebSection] = (),
) -> FastAPI:
    """Return the application that serves the live page, the API and the metrics."""
    app = FastAPI(
        title="sendtrace",
        description=API_DESCRIPTION,
        lifespan=_run_live_feed,
        exception_handlers=ERROR_HANDLERS,
        openapi_url=None,  # FastAPI's own route has no guard; ours is in the API's router
        docs_url=None,  # FastAPI's reference loads its program from another host
        redoc_url=None,
    )
    watch = HealthWatch(database, monitoring, settings.home)
    app.state.context = WebContext(
        database=database,
        settings=settings,
        monitoring=monitoring,
        health_watch=watch,
        live=LiveFeed(database, watch),
        sections=sections,
    )
    app.state.inbound_limiter = RateLimiter(settings.reports_per_second)
    app.add_middleware(LateDatabaseMiddleware)
    app.add_middleware(SecurityMiddleware, is_anonymous_allowed=settings.token is None)
    app.include_router(public_router)
    app.include_router(health.router)
    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    guarded_routers = [
        *(pages.router, api.router, metrics.router),
        *(action_pages.router, actions.log_router),
    ]
    for router in (*guarded_routers, *(section.router for section in sections)):
        app.include_router(router, dependencies=[Depends(require_viewer)])
    app.include_router(actions.acting_router)
    app.include_router(inbound.router, dependencies=[Depends(require_bearer)])
    return app
