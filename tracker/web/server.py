"""The server of the live page."""

import socket
from contextlib import closing, suppress

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from tracker.errors import UsageError
from tracker.system.loopback import is_loopback
from tracker.web.live import LiveFeed

MIN_TOKEN_LENGTH = 16
"""Characters of a token; a shorter one can be guessed."""

SHUTDOWN_TIMEOUT_SECONDS = 2
"""Seconds for which the server finishes requests after a shutdown request."""


def check_address(host: str, token: SecretStr | None) -> None:
    """Raise `UsageError` for a public address without a token, or for a token too short."""
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host {host}: a public address needs a token; set SENDTRACE_TOKEN, or leave --host"
            " out to serve this machine only"
        )
    if token is not None and len(token.get_secret_value()) < MIN_TOKEN_LENGTH:
        raise UsageError(
            f"SENDTRACE_TOKEN: too short; expected {MIN_TOKEN_LENGTH} characters or more, such as"
            " from `openssl rand -hex 32`"
        )


def bind_socket(host: str, port: int, options: str = "--host and --port") -> socket.socket:
    """Return a socket that listens on an address, or raise `UsageError`.

    Args:
        options: what chooses another address, for the error.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()  # from now on, requests wait for the server to start
    except (OSError, OverflowError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"cannot listen on {host}:{port}: {cause}; choose another with {options}"
        ) from None
    return bound


def socket_url(bound: socket.socket) -> str:
    """Return the address that a browser opens."""
    host, port = bound.getsockname()[:2]
    return format_url(host, port)


def format_url(host: str, port: int) -> str:
    """Return the address of a host and a port; an IPv6 address needs brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _LiveServer(uvicorn.Server):
    """A server that ends the event streams first; uvicorn would wait for them for ever."""

    def __init__(self, config: uvicorn.Config, live: LiveFeed) -> None:
        super().__init__(config)
        self._live = live

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._live.stop()
        await super().shutdown(sockets)


def serve(app: FastAPI, bound: socket.socket) -> None:
    """Serve requests until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # ours has no query, which may name a customer
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_SECONDS,
    )
    # After its shutdown, uvicorn raises the signal again.
    with closing(bound), suppress(KeyboardInterrupt):
        _LiveServer(config, app.state.context.live).run([bound])
