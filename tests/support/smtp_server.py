"""Run an SMTP server for tests in a process of its own.

Run `python -m tests.support.smtp_server PORT_FILE LOG [starttls|tls] [auth]`.

The local part of a recipient selects the server's behavior. The log has a line with a JSON object
for each accepted message.
"""

import asyncio
import json
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.paths import ROOT
from tests.support.shell import wait_until
from tracker.clock import SystemClock

HOST = "127.0.0.1"

REFUSING_FILE = "refusing"
"""While a file of this name is in the server's folder, it refuses to relay any message."""

SLOW_REPLY_SECONDS = 1.5

DRIP_SECONDS = 60
"""Time for which a server sends lines of a reply that doesn't end."""


@dataclass(frozen=True)
class SmtpServerProcess:
    """A running server, and the gateway settings for it."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    @property
    def settings(self) -> dict[str, str]:
        return {
            "SENDTRACE_ALLOW_GATEWAYS": "smtp",
            "SENDTRACE_SMTP_HOST": HOST,
            "SENDTRACE_SMTP_PORT": str(self.port),
            "SENDTRACE_SMTP_TLS": "none",
            "SENDTRACE_SMTP_FROM": "news@shop.internal",
        }

    @property
    def accepted(self) -> list[dict[str, Any]]:
        """The accepted messages, in their order."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def start_smtp_server(folder: Path, *options: str) -> SmtpServerProcess:
    """Start a server that writes its port and its log to a folder; wait until it listens."""
    port_file, log = folder / "port", folder / "log"
    command = [sys.executable, "-m", "tests.support.smtp_server", str(port_file), str(log)]
    process = subprocess.Popen([*command, *options], cwd=ROOT)
    wait_until(lambda: port_file.exists() and bool(port_file.read_text()), "the server listens")
    return SmtpServerProcess(process, int(port_file.read_text()), log)


class MailHandler:
    """A handler that accepts messages, and misbehaves for the recipients that ask for it."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._deferred: set[str] = set()

    async def handle_RCPT(  # noqa: N802  # aiosmtpd calls it
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if (self._log.parent / REFUSING_FILE).exists():
            return "554 5.7.1 relaying denied"
        name = address.partition("@")[0].partition("+")[0]
        match name:
            case "refuse":
                return "550 5.1.1 unknown user"
            case "defer" if address not in self._deferred:
                self._deferred.add(address)
                return "451 4.7.1 try again later"
            case "drop":
                assert isinstance(server.transport, asyncio.WriteTransport)
                server.transport.abort()
            case "stall":
                await asyncio.sleep(60)
            case "closing":
                return "421 4.3.2 going down"
            case "full":
                return "552 5.2.2 the mailbox is full"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        to, peer = envelope.rcpt_tos[0], session.peer
        assert peer is not None
        assert to is not None
        if to.startswith("reject"):
            return "554 5.7.1 message rejected"
        if to.startswith("suspicious"):
            return "421 4.7.0 suspicious, try again later"
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        entry = {
            "at": SystemClock().now(),
            "to": to,
            "from": envelope.mail_from,
            "peer": peer[1],
            "headers": dict(message.items()),
            "size": len(envelope.content),
            "html": html.get_content() if (html := message.get_body(("html",))) else None,
        }
        with self._log.open("a") as log:
            log.write(json.dumps(entry) + "\n")
        if to.startswith("vanish"):
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        if to.startswith(("drip", "flood")):
            assert isinstance(server.transport, asyncio.WriteTransport)
            end = time.monotonic() + DRIP_SECONDS
            while time.monotonic() < end and not server.transport.is_closing():
                server.transport.write(b"250-more\r\n" * (1 if to.startswith("drip") else 10_000))
                await asyncio.sleep(0.1)
        if to.startswith("slow"):
            await asyncio.sleep(SLOW_REPLY_SECONDS)
        return "250 2.0.0 accepted"


def authenticate(*arguments: Any) -> AuthResult:
    """Accept the login of one user; return the password of any other in the reply."""
    data = arguments[-1]
    assert isinstance(data, LoginPassword)
    is_valid = (data.login, data.password) == (b"news", b"secret")
    if is_valid:
        return AuthResult(success=True)
    spellings = (data.password, *map(b64encode, (data.password, b"\0news\0" + data.password)))
    text = "535 5.7.8 wrong: " + " ".join(spelling.decode() for spelling in spellings)
    return AuthResult(success=False, handled=False, message=text)


async def serve(port_file: Path, log: Path, options: Sequence[str]) -> None:
    handler = MailHandler(log)
    tls = None
    if {"starttls", "tls"} & {*options}:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(port_file.parent / "cert.pem", port_file.parent / "key.pem")

    def protocol() -> SMTP:
        return SMTP(
            handler,
            enable_SMTPUTF8=False,
            authenticator=authenticate,
            auth_required="auth" in options,
            auth_require_tls=False,
            tls_context=tls if "starttls" in options else None,
            require_starttls="starttls" in options,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, HOST, 0, ssl=tls if "tls" in options else None)
    port_file.write_text(str(server.sockets[0].getsockname()[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
