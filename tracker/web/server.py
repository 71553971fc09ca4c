"""Serving the live page."""

import socket
from contextlib import closing, suppress

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from tracker.errors import UsageError
from tracker.web.live import LiveFeed
from tracker.web.security import is_loopback

MIN_TOKEN_LENGTH = 16
"""Characters of a token: what is shorter can be guessed."""

SHUTDOWN_TIMEOUT_SECONDS = 2
"""Seconds that is waited for those who are being answered when the server ends."""


def check_address(host: str, token: SecretStr | None) -> None:
    """Raise :exc:`UsageError` for an address that others can reach without a token, and for a token
    that can be guessed."""
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host {host}: others could look, and nobody would ask them for a token; set"
            " SENDTRACE_TOKEN, or leave --host out to serve this machine alone"
        )
    if token is not None and len(token.get_secret_value()) < MIN_TOKEN_LENGTH:
        raise UsageError(
            f"SENDTRACE_TOKEN: expected {MIN_TOKEN_LENGTH} characters or more, such as those of"
            " `openssl rand -hex 32`"
        )


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there; :exc:`UsageError` where that can't be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()  # who comes from now on waits for an answer
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{host}:{port} can't be listened on: {why}; choose another with --host and --port"
        ) from None
    return bound


def socket_url(bound: socket.socket) -> str:
    """What to open in a browser."""
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


class _LiveServer(uvicorn.Server):
    """Ends the streams first: they would be waited for, and last for ever."""

    def __init__(self, config: uvicorn.Config, live: LiveFeed) -> None:
        super().__init__(config)
        self._live = live

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._live.stop()
        await super().shutdown(sockets)


def serve(app: FastAPI, bound: socket.socket) -> None:
    """Answer until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_SECONDS,
    )
    # Told to end it does so, and then raises the signal again: to end is all that was wanted.
    with closing(bound), suppress(KeyboardInterrupt):
        _LiveServer(config, app.state.live).run([bound])
