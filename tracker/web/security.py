"""Who may look, and from where: tokens, hosts, and what a browser may do with our pages."""

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from fastapi import HTTPException, Request
from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What a page may load and do."""

SELF_CONTAINED_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
"""For a page that is one file, with its style in it, and runs nothing."""

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Sent with every answer that does not say otherwise."""

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

AccessGuard = Callable[[Request], None]


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_valid_token(token: SecretStr, told: str) -> bool:
    """Whether somebody knows the token; it takes as long for one that is nearly right."""
    return secrets.compare_digest(told.encode(), token.get_secret_value().encode())


def make_viewer_guard(token: SecretStr | None) -> AccessGuard:
    """Who may look: everybody where there is no ``token``, which only loopback allows. Programs
    give it as a bearer token, browsers as the password of any user."""

    def guard(request: Request) -> None:
        if token is not None and not is_valid_token(token, _read_token(request)):
            raise HTTPException(
                401,
                "a token is needed: as a bearer token, or as the password of any user",
                {"WWW-Authenticate": 'Basic realm="sendtrace", charset="UTF-8"'},
            )

    return guard


def make_reporter_guard(token: SecretStr | None) -> AccessGuard:
    """Who may report: programs that give the ``token`` as a bearer token. A browser never does so
    by itself, whatever page it is on."""

    def guard(request: Request) -> None:
        if token is None:
            raise HTTPException(
                401,
                "nobody may report: set SENDTRACE_TOKEN where sendtrace serve runs",
                {"WWW-Authenticate": "Bearer"},
            )
        if not is_valid_token(token, _read_bearer_token(request)):
            raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})

    return guard


def _read_token(request: Request) -> str:
    scheme, value = _parse_authorization(request)
    if scheme != "basic":
        return _read_bearer_token(request)
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _read_bearer_token(request: Request) -> str:
    scheme, value = _parse_authorization(request)
    return value if scheme == "bearer" else ""


def _parse_authorization(request: Request) -> tuple[str, str]:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return scheme.lower(), value.strip()


class SecurityMiddleware:
    """Refuses what other sites have a browser ask for, and hosts that are none of ours; tells
    browsers what our pages may do.

    Without a token (``is_anonymous_allowed``) only a name of this machine is a host of ours: another site's
    name, made to mean this machine, would let that site read everything.
    """

    def __init__(self, app: ASGIApp, *, is_anonymous_allowed: bool) -> None:
        self._app, self._is_anonymous_allowed = app, is_anonymous_allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._find_refusal(Headers(scope=scope), scope["method"])

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer: Callable[[Scope, Receive, Send], Awaitable[None]] = self._app
        if refused is not None:
            answer = PlainTextResponse(*refused)
        await answer(scope, receive, guarded)

    def _find_refusal(self, headers: Headers, method: str) -> tuple[str, int] | None:
        host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        if self._is_anonymous_allowed and host.strip("[]") not in LOCAL_HOSTS:
            return "this is no host of ours\n", 421
        site = headers.get("sec-fetch-site", "none")
        visits = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("same-origin", "none") and not visits:
            return "other sites may not ask\n", 403
        return None
