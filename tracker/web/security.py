"""Access: tokens, hosts, requests of other sites, and what browsers allow the pages."""

import base64
import binascii
import logging
import re
import secrets
import time

from fastapi import HTTPException, Request
from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker.output.logs import LogFields
from tracker.system.loopback import is_loopback
from tracker.web.context import Context

logger = logging.getLogger(__name__)

PORT = re.compile(r":\d+$")
"""The port at the end of a Host header, in which an IPv6 address is in brackets."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The policy of the live page: it loads from its own origin only."""

SERVED_RESULT_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'unsafe-inline';"
    " img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
}
"""Headers of a result page or comparison: it includes its style, and loads the live script only."""

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every response, unless the response sets its own."""


def is_valid_token(token: SecretStr, presented: str) -> bool:
    """Return whether a token is right, in a time that doesn't reveal how much of it is."""
    return secrets.compare_digest(presented.encode(), token.get_secret_value().encode())


def is_viewer(request: Request, token: SecretStr | None) -> bool:
    """Return whether a request may see the pages."""
    return token is None or is_valid_token(token, _read_token(request))


async def require_viewer(request: Request, context: Context) -> None:
    """Refuse a viewer without the token with 401.

    Programs send it as a bearer token, browsers as the password of any user. Without a configured
    token everybody is a viewer; `check_address` then allows loopback addresses only.
    """
    if not is_viewer(request, context.settings.token):
        _log_refusal(request)
        raise HTTPException(
            401,
            "missing or wrong token; send it as a bearer token, or as the password of any user",
            {"WWW-Authenticate": 'Basic realm="sendtrace", charset="UTF-8"'},
        )


async def require_bearer(request: Request, context: Context) -> None:
    """Refuse a request without the bearer token with 401, also when no token is configured.

    Passwords don't count: a browser would send them with the request of any page.
    """
    token = context.settings.token
    if token is None:
        raise HTTPException(
            401,
            "this request needs a token; set SENDTRACE_TOKEN for sendtrace serve",
            {"WWW-Authenticate": "Bearer"},
        )
    if not is_valid_token(token, _read_bearer_token(request)):
        _log_refusal(request)
        raise HTTPException(401, "missing or wrong bearer token", {"WWW-Authenticate": "Bearer"})


def read_user(request: Request) -> str:
    """Return the name that a browser sends with its password; empty without one."""
    return _read_login(request)[0]


def _log_refusal(request: Request) -> None:
    """Log a request with a wrong token as a warning; browsers send their first one without any."""
    is_missing = "authorization" not in request.headers
    fields = LogFields(
        reason="missing" if is_missing else "wrong",
        path=request.url.path,
        client=_client_address(request.scope),
    )
    logger.log(logging.INFO if is_missing else logging.WARNING, "token refused: %s", fields)


def _client_address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else "unknown"


def _read_token(request: Request) -> str:
    scheme, _ = _parse_authorization(request)
    return _read_login(request)[1] if scheme == "basic" else _read_bearer_token(request)


def _read_login(request: Request) -> tuple[str, str]:
    """Return user and password of Basic authentication; empty texts without it."""
    scheme, value = _parse_authorization(request)
    if scheme != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


def _read_bearer_token(request: Request) -> str:
    scheme, value = _parse_authorization(request)
    return value if scheme == "bearer" else ""


def _parse_authorization(request: Request) -> tuple[str, str]:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return scheme.lower(), value.strip()


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    """Log a request without its query, which may name a customer."""
    fields = LogFields(
        method=scope["method"],
        path=scope["path"],
        status=status,
        seconds=f"{seconds:.3f}",
        client=_client_address(scope),
    )
    logger.info("request: %s", fields)


class SecurityMiddleware:
    """Middleware that refuses requests of other sites, adds security headers, and logs requests.

    With `is_anonymous_allowed`, that is without a token, it also refuses host names other than this
    machine's. Otherwise a site could let its name resolve to 127.0.0.1 and read everything (DNS
    rebinding).
    """

    def __init__(self, app: ASGIApp, *, is_anonymous_allowed: bool) -> None:
        self._app, self._is_anonymous_allowed = app, is_anonymous_allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._find_refusal(Headers(scope=scope), scope["method"])
        began = time.monotonic()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                _log_request(scope, message["status"], time.monotonic() - began)
            await send(message)

        respond: ASGIApp = self._app if refusal is None else refusal
        await respond(scope, receive, send_with_headers)

    def _find_refusal(self, headers: Headers, method: str) -> Response | None:
        host = PORT.sub("", headers.get("host", ""))
        if self._is_anonymous_allowed and not is_loopback(host):
            return PlainTextResponse("unknown host name; expected localhost\n", 421)
        site = headers.get("sec-fetch-site", "none")
        is_visit = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("same-origin", "none") and not is_visit:
            return PlainTextResponse("requests of other sites are refused\n", 403)
        return None
