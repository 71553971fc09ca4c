"""An SMTP server for tests, in its own process.

Run ``python -m tests.support.smtp_server PORT_FILE LOG``.

What it does depends on the local part of a recipient. What it accepts goes to the log, a JSON
object a line.
"""

import asyncio
import json
import ssl
import sys
from collections.abc import Sequence
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

HOST = "127.0.0.1"


class Handler:
    """Accepts what is for anybody, and treats some names as they ask for it."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._deferred: set[str] = set()
        self.connections = 0

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        name = address.partition("@")[0].partition("+")[0]
        match name:
            case "refuse":
                return "550 5.1.1 nobody of that name"
            case "defer" if address not in self._deferred:
                self._deferred.add(address)
                return "451 4.7.1 come back later"
            case "drop":
                assert isinstance(server.transport, asyncio.WriteTransport)
                server.transport.abort()
            case "stall":
                await asyncio.sleep(60)
            case "closing":
                return "421 4.3.2 going down"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        to, peer = envelope.rcpt_tos[0], session.peer
        assert peer is not None
        assert to is not None
        if to.startswith("reject"):
            return "554 5.7.1 not wanted"
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        seen = {
            "to": to,
            "from": envelope.mail_from,
            "peer": peer[1],
            "headers": dict(message.items()),
        }
        with self._log.open("a") as log:
            log.write(json.dumps(seen) + "\n")
        return "250 2.0.0 taken"


def authenticate(*arguments: Any) -> AuthResult:
    """One user may come in, where any must say who they are."""
    data = arguments[-1]
    assert isinstance(data, LoginPassword)
    known = (data.login, data.password) == (b"news", b"secret")
    return AuthResult(success=known, handled=True)


async def serve(port_file: Path, log: Path, options: Sequence[str]) -> None:
    handler = Handler(log)
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
