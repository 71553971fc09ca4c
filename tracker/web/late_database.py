"""Middleware for a database that doesn't answer: a page says so instead of waiting for it."""

import asyncio

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker.web.context import WebContext
from tracker.web.error_handlers import handle_database_error

CHECK_SECONDS = 1.0
"""Seconds between two looks, while a request waits, at whether the database still answers."""


class _Response:
    """The response of the application, which may be dropped before it begins."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = self.is_dropped = False

    async def make(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        await app(scope, receive, self._send_unless_dropped)

    async def _send_unless_dropped(self, message: Message) -> None:
        if not self.is_dropped:
            self.has_begun = True
            await self._send(message)


class LateDatabaseMiddleware:
    """Middleware that ends requests which wait for a database that is known not to answer.

    The live feed notices such a database within seconds. From then on, a page that waits gets the
    status 503, and its own response is dropped. Requests that may change something aren't ended:
    their senders must learn whether they had an effect.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._abandoned: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        response = _Response(send)
        task = asyncio.create_task(response.make(self._app, scope, receive))
        try:
            while not await _is_begun(response, task):
                error = _find_database_error(scope)
                if error is not None:
                    response.is_dropped = True
                    self._abandon(task)
                    answer = await handle_database_error(Request(scope), error)
                    await answer(scope, receive, send)
                    return
            await task
        except asyncio.CancelledError:
            task.cancel()
            raise

    def _abandon(self, task: asyncio.Task[None]) -> None:
        """Let a task end on its own: a thread that waits for the database can't be interrupted."""
        self._abandoned.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # else asyncio would log that it was never retrieved


async def _is_begun(response: _Response, task: asyncio.Task[None]) -> bool:
    """Wait a moment for a response, and return whether it has begun or ended."""
    await asyncio.wait({task}, timeout=CHECK_SECONDS)
    return response.has_begun or task.done()


def _find_database_error(scope: Scope) -> SQLAlchemyError | None:
    context: WebContext = scope["app"].state.context
    return context.find_database_error()
