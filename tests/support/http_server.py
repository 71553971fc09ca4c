"""Run an HTTP server for tests that accepts messages, and misbehaves for some recipients.

The name of a recipient, up to a plus sign or the domain, selects the server's behavior.
"""

import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tracker.clock import SystemClock

HOST = "127.0.0.1"

SLOW_SECONDS, DRIP_SECONDS = 1.5, 60.0

LATE_SECONDS = 0.03

REPLIES: dict[str, tuple[int, Any]] = {
    "ann": (202, {"id": "m-1"}),
    "invalid": (400, {"code": 21211, "message": "no valid number", "status": 400}),
    "stopped": (400, {"code": 21610, "message": "replied STOP"}),
    "malformed": (400, {"code": 21602, "message": "a body is required"}),
    "sender": (
        400,
        {"errors": [{"message": "Does not contain a valid address.", "field": "from"}]},
    ),
    "nosuch": (404, "<h1>not here</h1>"),
    "failing": (500, "boom"),
    "denied": (401, {"message": "no such key"}),
    "full": (422, {"error": {"code": "mailbox_full"}}),
    "lying": (200, {"status": "error", "reason": "number barred"}),
}


@dataclass
class HttpServer:
    """A running server.

    Attributes:
        requests: the requests with a body, in their order.
        everything: what it replies to all requests, for a while; None for the usual replies.
        is_silent: whether it ends all connections without a reply.
        most_at_once: the most requests that it has had at the same time.
        closed: connections that it has closed.
        was_read_to_the_end: whether a client has read a body of 65 MB.
    """

    port: int
    scheme: str = "http"
    requests: list[dict[str, Any]] = field(default_factory=list)
    everything: tuple[int, dict[str, str]] | None = None
    is_silent: bool = False
    closed: int = 0
    was_read_to_the_end: bool = False
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/send"

    @property
    def recipients(self) -> list[str]:
        """The names of the recipients of all requests, in their order."""
        return [request["name"] for request in self.requests]


def make_handler(server: HttpServer) -> type[BaseHTTPRequestHandler]:
    """Return a handler that records requests and replies to them."""
    seen: Counter[str] = Counter()
    running = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def do_OPTIONS(self) -> None:  # http.server calls it
            self._reply(204, None)

        def do_POST(self) -> None:
            nonlocal running
            content = self.rfile.read(int(self.headers["Content-Length"]))
            body = json.loads(content)
            name = str(body.get("recipient", body.get("to"))).partition("@")[0].partition("+")[0]
            with server.lock:
                running += 1
                server.most_at_once = max(server.most_at_once, running)
                seen[name] += 1
                count = seen[name]
                server.requests.append(
                    {
                        "at": SystemClock().now(),
                        "name": name,
                        "body": body,
                        "headers": dict(self.headers),
                        "peer": self.client_address[1],
                        "path": self.path,
                    }
                )
            try:
                self._reply_to(name, count)
            finally:
                with server.lock:
                    running -= 1

        do_PUT = do_POST  # noqa: N815

        def _reply_to(self, name: str, count: int) -> None:
            if server.is_silent:
                self._reset()
            elif server.everything is not None:
                status, headers = server.everything
                self._reply(status, "for all", **headers)
            elif name in REPLIES:
                self._reply(*REPLIES[name])
            elif name == "reset" or (name == "once" and count == 1):
                self._reset()
            elif name == "stall":
                time.sleep(SLOW_SECONDS)
                self._reset()
            elif name == "late":
                time.sleep(LATE_SECONDS)
                self._reply(202, None)
            elif name == "drip":
                self._drip()
            elif name == "closing":
                self.close_connection = True
                self._reply(202, {"id": "m-2"}, Connection="close")
            elif name == "cut":
                # The connection ends although the next request may use it.
                self._reply(202, {"id": "m-3"})
                self.close_connection = True
            elif name == "elsewhere":
                self._reply(302, None, Location="http://mail.shop.internal/send")
            elif name == "huge":
                self._reply_without_end()
            elif name == "garbage":
                self.wfile.write(b"\x00\x01 no HTTP at all\r\n\r\n")
                self.close_connection = True
            elif name == "broken":
                self._reply(202, "{not JSON")
            elif name == "echo":
                self._reply(403, f"bad credentials {self.headers['Authorization']}")
            else:
                self._reply(202, {"id": "m-4"})

        def _reply(self, status: int, body: Any, **headers: str) -> None:
            content = b""
            if body is not None:
                content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _reset(self) -> None:
            self.close_connection = True
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

        def _drip(self) -> None:
            """Send a header that never ends, so that no single read takes long."""
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 202 Accepted\r\nX-Drip: ")
            end = time.monotonic() + DRIP_SECONDS
            while time.monotonic() < end:
                try:
                    self.wfile.write(b".")
                    self.wfile.flush()
                except OSError:
                    return
                time.sleep(0.05)

        def _reply_without_end(self) -> None:
            self.close_connection = True
            self.send_response(202)
            self.end_headers()
            try:
                for _ in range(1_000):
                    self.wfile.write(b"x" * 65_536)
                server.was_read_to_the_end = True
            except OSError:
                return

    return Handler


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, server: HttpServer) -> None:
        super().__init__((HOST, 0), make_handler(server))
        self._server = server

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._server.closed += 1

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients and handlers close connections on purpose."""


@contextmanager
def start_http_server(certificate: Path | None = None) -> Iterator[HttpServer]:
    """Run a server in a thread, with TLS if there is a file with a key and a certificate."""
    server = HttpServer(0)
    listener = QuietServer(server)
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        server.scheme = "https"
    server.port = listener.server_address[1]
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
