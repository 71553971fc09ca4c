"""Send requests to an HTTP server, over connections that are kept and reused."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar

import httpx2

from tracker.text import make_printable
from workers.gateways.base import GatewayUnavailable
from workers.gateways.http_replies import (
    NO_REPLY,
    HttpReply,
    describe_status,
    parse_json,
    parse_retry_after,
)
from workers.gateways.http_settings import Endpoint, HttpSettings, load_endpoint
from workers.gateways.step_time import STEP_MARGIN_SECONDS, extend_step_time

CONNECT_SECONDS = 10.0
"""Time to wait for a connection."""

BODY_SECONDS = 5.0
"""Time to read the body of a reply whose status is known."""

MAX_BODY_BYTES = 64 * 1024
"""Bytes of a reply that are read."""

KEEP_ALIVE_SECONDS = 1.0
"""Idle time after which a connection isn't reused: well before servers close it, since a request
that meets the end of its connection gets no reply."""

UNSENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
"""Errors of a request that never reached the server."""

T = TypeVar("T")


class _Handover:
    """A record of whether a request was sent as a whole. The client calls it at each event."""

    is_complete = False

    async def __call__(self, event: str, _info: Mapping[str, Any]) -> None:
        if event.endswith("send_request_body.complete"):
            self.is_complete = True


class HttpClient:
    """A client for one URL, with an event loop of its own that runs during a call."""

    def __init__(self, settings: HttpSettings) -> None:
        """Read the secrets from the environment; raise `UsageError` if they are wrong."""
        self._settings = settings
        self._endpoint: Endpoint = load_endpoint(settings)
        self._runner: asyncio.Runner | None = None
        self._client: httpx2.AsyncClient | None = None
        # At INFO the client writes a line for each request.
        for name in ("httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)

    def __del__(self) -> None:
        with suppress(Exception):  # __init__ failed, or the interpreter ends
            self.close()

    @property
    def server(self) -> str:
        """The server in messages."""
        return self._endpoint.server

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine. If it raises an error, cancel all requests and close the connections."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(work())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Cancel all requests and close the connections."""
        runner, self._runner = self._runner, None
        if runner is not None:
            try:
                runner.run(self._shut_down())
            finally:
                runner.close()

    def check(self) -> None:
        """Raise `GatewayUnavailable` unless the server replies. No message is sent."""
        self.run(self._probe)

    async def send(self, content: bytes, idempotency_key: str) -> HttpReply:
        """Send one message and return the reply.

        Without a reply the server may have accepted the message. If it honors the key, the request
        is repeated once. After that, NO_REPLY is returned and the message isn't sent again.

        Raises:
            GatewayUnavailable: the message was not handed over.
        """
        headers = {**self._endpoint.headers, "Content-Type": "application/json"}
        tries = 1
        if self._settings.idempotency_header is not None:
            headers[self._settings.idempotency_header] = idempotency_key
            tries = 2
        was_handed_over = False
        for _ in range(tries):
            handover = _Handover()
            try:
                return await self._exchange(content, headers, handover)
            except (httpx2.HTTPError, TimeoutError) as error:
                was_handed_over |= handover.is_complete and not isinstance(error, UNSENT)
                if not was_handed_over:
                    raise self._unavailable(error) from None
        return NO_REPLY

    async def _exchange(
        self, content: bytes, headers: Mapping[str, str], handover: _Handover
    ) -> HttpReply:
        # The step must not end before the outcome is recorded.
        extend_step_time(self._endpoint.timeout + BODY_SECONDS + STEP_MARGIN_SECONDS)
        client = self._open()
        request = client.build_request(
            self._settings.method,
            self._settings.url,
            content=content,
            headers=headers,
            extensions={"trace": handover},
        )
        async with asyncio.timeout(self._endpoint.timeout):
            response = await client.send(request, stream=True)
        try:
            return self._make_reply(response, await _read_beginning(response))
        finally:
            await response.aclose()

    def _make_reply(self, response: httpx2.Response, content: bytes) -> HttpReply:
        code = response.status_code
        text = content.decode("utf-8", "replace")
        if response.has_redirect_location:
            text = f"redirects to {response.headers['Location']}"
        return HttpReply(
            code,
            make_printable(self._endpoint.hide_secrets(text)) or describe_status(code),
            parse_json(content),
            parse_retry_after(response.headers.get("Retry-After")),
        )

    def _open(self) -> httpx2.AsyncClient:
        if self._client is None:
            parallel = self._settings.parallel
            self._client = httpx2.AsyncClient(
                verify=ssl.create_default_context(),
                timeout=httpx2.Timeout(self._endpoint.timeout, connect=CONNECT_SECONDS),
                limits=httpx2.Limits(
                    max_connections=parallel,
                    max_keepalive_connections=parallel,
                    keepalive_expiry=KEEP_ALIVE_SECONDS,
                ),
                headers={"User-Agent": "sendtrace", "Accept-Encoding": "identity"},
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                follow_redirects=False,
                trust_env=not self._endpoint.is_local,  # a proxy would leave this machine
            )
        return self._client

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                request = self._open().build_request("OPTIONS", self._settings.url)
                response = await self._open().send(request, stream=True)
                await response.aclose()
        except (httpx2.HTTPError, TimeoutError) as error:
            raise self._unavailable(error) from None

    async def _shut_down(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _unavailable(self, error: Exception) -> GatewayUnavailable:
        cause = self._endpoint.hide_secrets(str(error)) or type(error).__name__
        return GatewayUnavailable(f"{self.server}: request failed: {cause}")


async def _read_beginning(response: httpx2.Response) -> bytes:
    """Return the beginning of a body, as much as comes in time; the status is what counts."""
    content = bytearray()
    with suppress(httpx2.HTTPError, TimeoutError):
        async with (
            asyncio.timeout(BODY_SECONDS),
            aclosing(response.aiter_raw()) as chunks,  # decoded, it could be of any size
        ):
            async for chunk in chunks:
                content += chunk
                if len(content) >= MAX_BODY_BYTES:
                    break
    return bytes(content[:MAX_BODY_BYTES])
